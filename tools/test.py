"""Test a checkpoint on all samples: python tools/test.py CONFIG CHECKPOINT --metric angle|pog|all."""

import argparse
from pathlib import Path

from evg.config import add_config_arguments, config_from_args
from evg.engine.launch import build_runner, choose_gpu, load_weights
from evg.engine.show import prediction_sheets, spread
from evg.engine.storage import load_checkpoint_file
from evg.errors import run_tool
from evg.evaluation.report import render, write_json, write_predictions
from evg.visualization import save_image

METRICS = {'pog': ['PoGError'], 'angle': ['AngularError'], 'all': ['PoGError', 'AngularError']}


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description='Test a checkpoint on all samples of a config.')
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--metric', choices=sorted(METRICS), default='all', help='what to measure')
    parser.add_argument('--out', help='write the figures to this JSON file')
    parser.add_argument('--preds', help='write one row per sample to this Parquet file')
    parser.add_argument('--show-dir', help='write pictures of predictions into this folder')
    parser.add_argument('--show-count', type=int, default=12, help='how many of them')
    parser.add_argument('--work-dir', help='logs (default: the folder of the checkpoint)')
    parser.add_argument('--gpu', type=int, help='the only GPU to use (or set CUDA_VISIBLE_DEVICES)')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none', help='how processes start')
    return parser.parse_args()


@run_tool
def main() -> None:
    """Load, test, print and write."""
    args = parse_args()
    choose_gpu(args.gpu)
    cfg = config_from_args(args)
    checkpoint = load_checkpoint_file(args.checkpoint)
    cfg.test_evaluator = [metric for metric in cfg.test_evaluator if metric.type in METRICS[args.metric]]
    runner = build_runner(cfg, args.work_dir or Path(args.checkpoint).parent, launcher=args.launcher, training=False)
    load_weights(runner.model, checkpoint, args.checkpoint)
    figures = runner.test()
    if runner.rank:
        return
    metrics = runner.test_loop.evaluator.metrics
    print()
    for metric in metrics:
        print(render(metric.report), end='\n\n')
    if args.out:
        run = {'config': args.config, 'checkpoint': args.checkpoint, 'overrides': args.cfg_options}
        write_json(args.out, {**run, 'figures': figures, 'reports': [metric.report for metric in metrics]})
        print(f'figures: {args.out}')
    if args.preds:
        rows = {name: column for metric in metrics for name, column in metric.rows().items()}
        write_predictions(args.preds, rows, {'config': args.config, 'checkpoint': args.checkpoint})
        print(f'predictions: {args.preds}')
    if args.show_dir:
        runner.model.eval()
        dataset = runner.test_loop.dataloader.dataset
        sheets = prediction_sheets(runner.model, dataset, spread(len(dataset), args.show_count))
        for sample_id, sheet in sheets:
            save_image(Path(args.show_dir) / f'{sample_id.replace("/", "_")}.jpg', sheet)
        print(f'pictures: {args.show_dir}')


if __name__ == '__main__':
    main()
