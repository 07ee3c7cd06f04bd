#!/bin/sh
# Train with several processes of one machine, or as one of several machines:
#   tools/dist_train.sh CONFIG PROCESSES [options of tools/train.py]
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 tools/dist_train.sh CONFIG 8 [...]     on the first of two machines
# One process for each GPU; machines without one use gloo on their CPUs. docs/distributed.md
set -eu
[ $# -ge 2 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
config=$1 processes=$2
shift 2
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}" \
    --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${PORT:-29500}" --nproc-per-node "$processes" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
