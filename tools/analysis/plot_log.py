"""Draw the curves of trainings: python tools/analysis/plot_log.py WORK_DIR [WORK_DIR ...] [--keys loss pog/mean_mm]."""

import argparse
from pathlib import Path

from evg.errors import UserError, needs, run_tool

with needs('train'):
    from evg.engine.curves import choose_keys, draw_curves, read_curves
    from evg.files import atomic_write

FORMATS = ('png', 'pdf', 'svg')


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description='Draw the curves of trainings, several in one picture.')
    parser.add_argument('runs', nargs='+', metavar='WORK_DIR', help='work folder of a training')
    parser.add_argument(
        '--keys',
        nargs='+',
        metavar='KEY',
        help='what to draw, one chart each (default: the loss and the figure that chooses the best checkpoint)',
    )
    parser.add_argument('--out', help='the picture, .png, .pdf or .svg (default: curves.png in the first WORK_DIR)')
    parser.add_argument(
        '--smooth',
        type=float,
        default=0.0,
        metavar='WEIGHT',
        help='running mean of the training, from 0 (none) to below 1, e.g. 0.9; the raw curve stays, pale',
    )
    return parser.parse_args()


@run_tool
def main() -> None:
    """Read, draw, write."""
    args = parse_args()
    if not 0 <= args.smooth < 1:
        raise UserError(f'--smooth is a weight from 0 to below 1, not {args.smooth:g}')
    out = Path(args.out or Path(args.runs[0]) / 'curves.png')
    kind = out.suffix[1:].lower()
    if kind not in FORMATS:
        raise UserError(f'--out {out} does not end in {", ".join(f".{name}" for name in FORMATS)}')
    runs = [read_curves(folder) for folder in args.runs]
    figure = draw_curves(runs, choose_keys(runs, args.keys), args.smooth)
    with atomic_write(out) as file:
        figure.savefig(file, format=kind)
    print(f'curves: {out}')


if __name__ == '__main__':
    main()
