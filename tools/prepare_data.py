"""Turn a data set into pictures and one Parquet index: `prepare_data.py NAME --out DIR [...]`, see docs/datasets.md."""

import argparse

from evg.errors import needs, positive, run_tool

with needs('train'):
    from evg.datasets.converter import CONVERTERS, converter_class
    from evg.datasets.prepare import prepare
    from evg.datasets.shards import Shard


@run_tool
def main(argv: list[str] | None = None) -> None:
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = parser.add_subparsers(dest='name', metavar='NAME', required=True)
    for name in CONVERTERS:
        converter = converter_class(name)
        text = converter.__doc__.splitlines()[0]
        command = names.add_parser(name, help=text, description=text)
        command.add_argument('--out', required=True, help='folder for the pictures and index.parquet')
        command.add_argument('--jobs', type=positive, help='worker processes; all cores if not given')
        share = command.add_mutually_exclusive_group()
        share.add_argument('--shard', type=Shard.parse, metavar='I/N', help='convert share I of N only')
        share.add_argument('--merge', type=positive, metavar='N', help='make the index of N finished shares')
        command.add_argument('--limit', type=positive, help='convert this many recordings only, for a trial')
        converter.add_arguments(command)
    args = parser.parse_args(argv)
    prepare(converter_class(args.name).from_args(args), args.out, args.jobs, args.limit, args.shard, args.merge)


if __name__ == '__main__':
    main()
