"""Look at what a network is trained on: python tools/browse_dataset.py CONFIG --out DIR."""

import argparse
from pathlib import Path

from evg.errors import UserError, needs, run_tool

with needs('train'):
    from evg.codecs.main import main_first
    from evg.config import add_config_arguments, config_from_args
    from evg.engine.show import spread, target_sheets
    from evg.registry import CODECS, DATASETS
    from evg.visualization import save_image


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description='Write pictures of samples: input, heatmaps, point of gaze on plane and screen, or its direction.'
    )
    add_config_arguments(parser)
    parser.add_argument('--out', required=True, help='folder for the pictures')
    parser.add_argument('--split', choices=['train', 'val', 'test'], default='train', help='whose pipeline to look at')
    parser.add_argument('--count', type=int, default=12, help='how many samples, evenly spread')
    return parser.parse_args()


@run_tool
def main() -> None:
    """Load, draw, write."""
    args = parse_args()
    if args.count < 1:
        raise UserError(f'--count must be at least 1, not {args.count}')
    cfg = config_from_args(args)
    dataset = DATASETS.build(cfg[f'{args.split}_dataloader'].dataset)
    codec = CODECS.build(next(iter(main_first(cfg.codecs).values())))
    print(codec.describe())
    print(f'{len(dataset)} samples')
    if hasattr(codec, 'virtual_plane'):
        print(f'{dataset.labels_outside(codec.virtual_plane)} labels outside the plane are clamped')
    for sample_id, sheet in target_sheets(dataset, codec, spread(len(dataset), args.count)):
        save_image(Path(args.out) / f'{sample_id.replace("/", "_")}.jpg', sheet)
    print(f'pictures: {args.out}')


if __name__ == '__main__':
    main()
