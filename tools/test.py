"""Test a checkpoint on all samples: python tools/test.py CONFIG CHECKPOINT --metric angle|pog|gaze|landmarks|all."""

import argparse
from pathlib import Path

from evg.errors import UserError, needs, run_tool

with needs('train'):
    from evg.config import add_config_arguments, config_from_args
    from evg.engine.faults import clear_errors
    from evg.engine.launch import build_runner, choose_gpu, leaves_plainly, load_weights
    from evg.engine.leak_guard import provenance, provenance_lines
    from evg.engine.meaning import check_meaning
    from evg.engine.show import prediction_sheets, spread
    from evg.engine.storage import load_checkpoint_file
    from evg.evaluation.breakdown import breakdown, sample_facts
    from evg.evaluation.html_report import html_report
    from evg.evaluation.report import render, write_json, write_predictions
    from evg.evaluation.submission import without_labels, write_submission
    from evg.files import atomic_write
    from evg.visualization import save_image

METRICS = {'pog': ['PoGError'], 'angle': ['AngularError'], 'gaze': ['GazeError'], 'landmarks': ['LandmarkError']}
METRICS['all'] = [name for names in METRICS.values() for name in names]


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description='Test a checkpoint on all samples of a config.')
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--metric', choices=sorted(METRICS), default='all', help='what to measure')
    parser.add_argument('--out', help='write the figures to this JSON file')
    parser.add_argument('--preds', help='write one row per sample to this Parquet file')
    parser.add_argument('--report', help='write one HTML page with figures, charts and pictures into this folder')
    parser.add_argument('--show-dir', help='write pictures of predictions into this folder')
    parser.add_argument('--show-count', type=int, default=12, help='how many of them (the report has at most 6)')
    parser.add_argument('--submission', help='measure nothing, write the file for the server (ethxgaze, eve)')
    parser.add_argument('--work-dir', help='logs (default: the folder of the checkpoint)')
    parser.add_argument('--gpu', type=int, help='the only GPU to use (or set CUDA_VISIBLE_DEVICES)')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none', help='how processes start')
    return parser.parse_args()


def chosen(metrics: list, args: argparse.Namespace) -> list:
    """Those of --metric."""
    kept = [metric for metric in metrics if metric.type in METRICS[args.metric]]
    if not kept:
        has = [name for name in METRICS if name != 'all' and any(metric.type in METRICS[name] for metric in metrics)]
        wanted = ' or '.join(METRICS[args.metric])
        raise UserError(f'the test_evaluator of {args.config} has no {wanted}; it has: {", ".join(has) or "none"}')
    return kept


def pictures(runner, count: int) -> list:
    """(sample id, sheet) of some predictions, evenly spread."""
    dataset = runner.test_loop.dataloader.dataset
    return list(prediction_sheets(runner.model.eval(), dataset, spread(len(dataset), count)))


@run_tool
@leaves_plainly
def main() -> None:
    """Load, test, print and write."""
    args = parse_args()
    choose_gpu(args.gpu)
    cfg = config_from_args(args)
    checkpoint = load_checkpoint_file(args.checkpoint)
    cfg.test_evaluator = [dict(type='Predictions')] if args.submission else chosen(cfg.test_evaluator, args)
    if args.submission:
        without_labels(cfg.test_dataloader.dataset)
    facts = provenance(cfg, checkpoint, args.checkpoint)
    runner = build_runner(cfg, args.work_dir or Path(args.checkpoint).parent, launcher=args.launcher, training=False)
    load_weights(runner.model, checkpoint, args.checkpoint)
    check_meaning(cfg, checkpoint, args.checkpoint)
    with clear_errors():
        figures = runner.test()
    if runner.rank:
        return
    metrics, index = runner.test_loop.evaluator.metrics, runner.test_loop.dataloader.dataset.index
    if args.submission:
        write_submission(args.submission, index, metrics[0].rows())
        print(f'submission: {args.submission}')
        return
    print()
    for metric in metrics:
        known = sample_facts(index, metric.rows()['sample_id'])
        metric.report['groups'] += breakdown(metric.rows()[metric.error], metric.report['unit'], known, index.dataset)
        print(render(metric.report), end='\n\n')
    print('\n'.join(provenance_lines(facts)))
    run, reports = {'config': args.config, 'checkpoint': args.checkpoint}, [metric.report for metric in metrics]
    if args.out:
        rest = {'overrides': args.cfg_options, 'provenance': facts, 'figures': figures, 'reports': reports}
        write_json(args.out, run | rest)
        print(f'figures: {args.out}')
    if args.preds:
        rows = {name: column for metric in metrics for name, column in metric.rows().items()}
        write_predictions(args.preds, rows, run)
        print(f'predictions: {args.preds}')
    if args.report:
        about = {**run, 'data set': f'{index.dataset} ({index.path})'}
        about['split'] = ', '.join(index.columns.distinct('split'))
        about['overrides'] = ' '.join(args.cfg_options) or 'none'
        screens = {rig.screen_size_px for rig in index.rigs.values()}
        results = [(metric.report, metric.rows()) for metric in metrics]
        page = html_report(
            Path(args.config).stem, about, results, facts, screens.pop() if len(screens) == 1 else None,
            pictures(runner, min(args.show_count, 6)),
        )  # fmt: skip
        with atomic_write(Path(args.report) / 'index.html', 'w') as file:
            file.write(page)
        print(f'report: {Path(args.report) / "index.html"}')
    if args.show_dir:
        for sample_id, sheet in pictures(runner, args.show_count):
            save_image(Path(args.show_dir) / f'{sample_id.replace("/", "_")}.jpg', sheet)
        print(f'pictures: {args.show_dir}')


if __name__ == '__main__':
    main()
