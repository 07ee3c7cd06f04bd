"""Checkpoints of the originals as ones of evg: python tools/convert_checkpoint.py IN CONFIG OUT."""

import argparse

from evg.errors import needs, run_tool

with needs('train'):
    from evg.config import add_config_arguments, config_from_args
    from evg.engine.convert import convert_checkpoint
    from evg.models.originals import ORIGINALS


def parse_args() -> argparse.Namespace:
    """The command line."""
    known = '; '.join(f'{key}: {original.what}' for key, original in ORIGINALS.items())
    parser = argparse.ArgumentParser(description=f'Convert the checkpoint of an original. {known}.')
    parser.add_argument('checkpoint', help="the original's checkpoint; nothing in it is executed")
    add_config_arguments(parser)
    parser.add_argument('out', help='the new checkpoint')
    parser.add_argument(
        '--map', choices=['auto', *ORIGINALS], default='auto', help='whose it is (default: its names tell)'
    )
    parser.add_argument(
        '--without-heads',
        action='store_true',
        help='backbone and neck alone, of a detector for instance: a start for a training, load_from=OUT',
    )
    return parser.parse_args()


@run_tool
def main() -> None:
    """Read, rename, write, tell."""
    args = parse_args()
    lines = convert_checkpoint(args.checkpoint, config_from_args(args), args.out, args.map, not args.without_heads)
    print('\n'.join(lines))


if __name__ == '__main__':
    main()
