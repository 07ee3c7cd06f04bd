"""Train the model of a config: python tools/train.py CONFIG [--work-dir DIR] [--resume [auto|CHECKPOINT]]."""

import argparse
import os
from pathlib import Path

from evg.errors import UserError, needs, run_tool

with needs('train'):
    from evg.config import add_config_arguments, config_from_args
    from evg.engine.faults import clear_errors
    from evg.engine.launch import build_runner, choose_gpu, leaves_plainly
    from evg.engine.speed import PRECISIONS


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description='Train the model of a config.')
    add_config_arguments(parser)
    parser.add_argument('--work-dir', help='logs and checkpoints (default: work_dirs/NAME_OF_THE_CONFIG)')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help="go on from a checkpoint; without a path, or 'auto', from the newest one",
    )
    parser.add_argument('--amp', nargs='?', const='fp16', choices=PRECISIONS, help='mixed precision; fp16 needs CUDA')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='learning rate in proportion to the batch of all processes, from auto_scale_lr.base_batch_size',
    )
    parser.add_argument('--gpu', type=int, help='the only GPU to use (or set CUDA_VISIBLE_DEVICES)')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none', help='how processes start')
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


@run_tool
@leaves_plainly
def main() -> None:
    """Load the config, describe the run, train."""
    args = parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    choose_gpu(args.gpu)
    cfg = config_from_args(args)
    if not cfg.get('train_dataloader'):
        raise UserError(f'{args.config} has no train_dataloader')
    # For the command that tests it, at the end of the log.
    cfg.overrides = args.cfg_options
    work_dir = args.work_dir or Path('work_dirs') / Path(args.config).stem
    runner = build_runner(
        cfg,
        work_dir,
        resume=args.resume,
        amp=args.amp,
        auto_scale_lr=args.auto_scale_lr,
        launcher=args.launcher,
    )
    with clear_errors():
        runner.train()


if __name__ == '__main__':
    main()
