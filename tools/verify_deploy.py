"""Compare a model folder with its checkpoint: python tools/verify_deploy.py DIR CONFIG CHECKPOINT [--data ROOT]."""

import argparse
import sys
from dataclasses import replace

from evg.errors import UserError, needs, run_tool

with needs('train'):
    from evg.config import add_config_arguments, config_from_args
    from evg.deploy.parity import TOLERANCES, check_source, choose_device, compare, precision_of
    from evg.deploy.parity_pictures import pictures_of
    from evg.deploy.parity_table import render
    from evg.deploy.runtime import BACKENDS, GazeModel
    from evg.engine.network import load_network
    from evg.evaluation.report import write_json


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description='Raw outputs, answers, metrics and time of a model folder beside those of its checkpoint. '
        'Ends with 1 where the difference is beyond the tolerance.'
    )
    add = parser.add_argument
    add('folder', help='what tools/deploy_atlas.py wrote')
    add_config_arguments(parser)
    add('checkpoint', help="what the folder was exported from, 'none' included")
    add('--data', metavar='ROOT', help="a prepared data set; default: the config's, or random pictures without it")
    add('--images', type=int, default=200, help='how many pictures, evenly spread over the test set')
    add('--backend', choices=BACKENDS, default='auto', help='what runs the folder')
    add('--device', help='of torch: cpu, cuda, cuda:1; default: cuda where there is one')
    add('--threads', type=int, help='CPU threads of both; default: one per core')
    add('--atol-raw', type=float, help='largest difference of raw outputs; defaults: docs/runtime.md')
    add('--atol-mm', type=float, help='largest difference of points of gaze, mm')
    add('--atol-deg', type=float, help='largest difference of directions, degrees')
    add('--atol-px', type=float, help='largest difference of points of the picture, px')
    add('--json', metavar='FILE', help='write the report')
    return parser.parse_args()


@run_tool
def main() -> None:
    """Load both, compare, print and write."""
    args = parse_args()
    if args.images < 1:
        raise UserError('--images must be at least 1')
    cfg = config_from_args(args)
    with GazeModel.load(args.folder, args.backend, threads=args.threads) as runtime:
        model, source = load_network(cfg, args.checkpoint)
        check_source(runtime.file, source)
        device = choose_device(args.device, args.threads)
        given = {name: getattr(args, f'atol_{name}') for name in ('raw', 'mm', 'deg', 'px')}
        tolerance = replace(
            TOLERANCES[precision_of(runtime)], **{name: v for name, v in given.items() if v is not None}
        )
        report = compare(model, runtime, pictures_of(cfg, args.images, args.data), device, tolerance)
    print(render(report))
    if args.json:
        write_json(args.json, {'config': args.config, 'checkpoint': args.checkpoint, 'folder': args.folder, **report})
        print(f'report: {args.json}')
    sys.exit(1 if report['failures'] else 0)


if __name__ == '__main__':
    main()
