"""Parameters and multiply-accumulates of a config: python tools/analyze_flops.py CONFIG."""

import argparse
import json
from pathlib import Path

from evg.config import add_config_arguments, config_from_args
from evg.errors import UserError, run_tool
from evg.models.flops import Cost, build_on_meta, count_flops
from evg.registry import CODECS


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description='Count parameters, MACs and FLOPs (2 MACs) of the network of a config.'
    )
    add_config_arguments(parser)
    add = parser.add_argument
    add('--shape', type=int, nargs=2, metavar=('W', 'H'), help="input in px; default: the config's, padding included")
    add('--batch', type=int, default=1, help='pictures at once')
    add('--table', action='store_true', help='also a line per module')
    add('--json', metavar='FILE', help='write params, macs, flops, sampling_macs, input_size, batch, modules')
    return parser.parse_args()


@run_tool
def main() -> None:
    """Build without memory, count, print."""
    args = parse_args()
    cfg = config_from_args(args)
    if args.batch < 1 or (args.shape and min(args.shape) < 1):
        raise UserError('--shape and --batch must be positive')
    model = build_on_meta(cfg.model)
    codec = next(iter(CODECS.build(codec) for codec in cfg.codecs.values()))
    size = tuple(args.shape or codec.input_frame.input_size)
    backbone = model.backbone
    multiple = getattr(backbone, 'max_stride', backbone.stride) or 1
    if any(side % multiple for side in size):
        raise UserError(f'--shape must be multiples of {multiple} for this network, not {size[0]} {size[1]}')
    total, *modules = count_flops(model, size, args.batch)
    if args.table:
        print(_table(modules))
    print(f'input {size[0]} x {size[1]} px (padding included), batch {args.batch}')
    print(f'parameters {total.params:,}')
    print(f'MACs {total.macs / 1e9:.3f} G, FLOPs {total.flops / 1e9:.3f} G')
    if total.sampling_macs:
        print(f'and {total.sampling_macs / 1e9:.3f} GMACs of sampling in deformable convolutions')
    if args.json:
        found = {**_figures(total), 'input_size': list(size), 'batch': args.batch}
        found['modules'] = [{'name': cost.name, 'kind': cost.kind, **_figures(cost)} for cost in modules]
        Path(args.json).write_text(json.dumps(found, indent=1) + '\n', encoding='utf-8')


def _figures(cost: Cost) -> dict[str, int]:
    return dict(params=cost.params, macs=cost.macs, flops=cost.flops, sampling_macs=cost.sampling_macs)


def _table(modules: list[Cost]) -> str:
    """Modules that cost anything, indented by depth."""
    lines = [f'{"module":<48}{"kind":<24}{"params":>14}{"MMACs":>12}']
    for cost in modules:
        if cost.params or cost.macs:
            indented = '  ' * cost.name.count('.') + cost.name.rpartition('.')[2]
            lines.append(f'{indented:<48}{cost.kind:<24}{cost.params:>14,}{cost.macs / 1e6:>12,.1f}')
    return '\n'.join(lines)


if __name__ == '__main__':
    main()
