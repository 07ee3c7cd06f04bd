"""Export a network for Ascend or ONNX Runtime: python tools/deploy_atlas.py CONFIG CHECKPOINT|none --out DIR."""

import argparse
from pathlib import Path

from evg.errors import needs, run_tool

with needs('train'):
    from evg.config import add_config_arguments, config_from_args
    from evg.deploy.folder import TARGETS, Options, deploy
    from evg.engine.network import load_network


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description='Export a network into a model folder, and convert it where atc is.')
    add_config_arguments(parser)
    add = parser.add_argument
    add('checkpoint', help="checkpoint file, or 'none': random weights, to look at the graph")
    add('--out', help='the folder (default: work_dirs/NAME_OF_THE_CONFIG/TARGET)')
    add('--target', choices=TARGETS, default='atlas', help='what the folder is for')
    add('--soc-version', default='Ascend310', help="the chip: 'Ascend' and its Name in npu-smi info")
    add('--opset', type=int, help='of the graph (default: 11, or the least that the rest needs)')
    add('--precision', choices=['fp16', 'fp32', 'int8'], help='default: fp16 on Ascend, fp32 in ONNX Runtime')
    add('--aipp', action='store_true', help='normalise on the chip: the .om takes uint8 pictures')
    add('--batch', type=int, default=1, help='pictures a run')
    add('--dynamic-batch', action='store_true', help='any number in model.onnx; the .om takes --batch of them')
    add('--dcn', choices=['native', 'lower', 'ascend'], help='how deformable convolutions are written')
    add('--calib-images', default='64', help='of int8: how many training samples, or a folder of pictures')
    add('--dry-run', action='store_true', help='show everything, write nothing')
    return parser.parse_args()


@run_tool
def main() -> None:
    """Load, export, convert."""
    args = parse_args()
    cfg = config_from_args(args)
    out = Path(args.out) if args.out else Path('work_dirs') / Path(args.config).stem / args.target
    options = Options(
        target=args.target,
        soc_version=args.soc_version,
        opset=args.opset,
        precision=args.precision,
        aipp=args.aipp,
        batch=args.batch,
        dynamic_batch=args.dynamic_batch,
        dcn=args.dcn,
        calibration=args.calib_images,
    )
    options.check()
    model, source = load_network(cfg, args.checkpoint)
    deploy(cfg, model, out, options, source, dry_run=args.dry_run)
    print('nothing was written (--dry-run)' if args.dry_run else f'folder: {out}')


if __name__ == '__main__':
    main()
