#!/bin/bash
# Submit a training to Slurm, one task for each GPU; at the time limit it saves, is queued again and goes on:
#   [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=8] tools/slurm_train.sh PARTITION NAME CONFIG WORK_DIR [options of train.py]
# Options of sbatch go into SBATCH_ARGS. docs/distributed.md
set -eu
[ $# -ge 4 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
partition=$1 name=$2 work_dir=$4
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}
[ "$per_node" -le "$gpus" ] || per_node=$gpus
train=$(printf '%q ' "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$3" --work-dir "$work_dir" --launcher slurm \
    --resume auto "${@:5}")
mkdir -p "$work_dir"
# The signal comes 180 s before the limit, to all tasks. What a stopped run leaves says that there is more to do.
# shellcheck disable=SC2086
exec "${SBATCH:-sbatch}" --partition "$partition" --job-name "$name" --ntasks "$gpus" --ntasks-per-node "$per_node" \
    --gres "gpu:$per_node" --cpus-per-task "${CPUS_PER_TASK:-8}" --signal TERM@180 --requeue --open-mode append \
    --output "$work_dir/slurm-%j.out" ${SBATCH_ARGS:-} <<END
#!/bin/bash
srun --kill-on-bad-exit=1 $train || exit
compgen -G $(printf %q "$work_dir")/'model_*_iter_*.pth' > /dev/null && scontrol requeue "\$SLURM_JOB_ID"
exit 0
END
