"""Put the pictures of a prepared data set into tar files: python tools/pack_data.py SRC --out DIR [--shard-mb 1024]."""

import argparse

from evg.errors import needs, positive, run_tool

with needs('train'):
    from evg.datasets.pack import pack


@run_tool
def main() -> None:
    """Parse the command line and pack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', help='folder of the prepared data set, with index.parquet')
    parser.add_argument('--out', required=True, help='folder for the tar files and their index.parquet')
    parser.add_argument('--shard-mb', type=positive, default=1024, help='size of a tar file, MiB (default 1024)')
    args = parser.parse_args()
    pictures, files = pack(args.src, args.out, args.shard_mb << 20)
    print(f'{pictures} pictures in {files} tar files: {args.out}; train with --cfg-options data_root={args.out}')


if __name__ == '__main__':
    main()
