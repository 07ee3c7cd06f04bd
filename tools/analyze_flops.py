"""Parameters, multiply-accumulates and latency of configs: python tools/analyze_flops.py CONFIG [CONFIG ...]."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from evg.errors import needs, run_tool

with needs('train'):
    from evg.config import load_config
    from evg.deploy.latency import WAYS, Latency, device_name, latencies
    from evg.files import atomic_write
    from evg.models.flops import Cost, build_untrained, count_config


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description='Count parameters, MACs and FLOPs (2 MACs) of the networks of configs.'
    )
    add = parser.add_argument
    add('configs', nargs='+', metavar='CONFIG', help='config file; several give a table')
    add('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='override config values, in all of them')
    add('--shape', type=int, nargs=2, metavar=('W', 'H'), help="input in px; default: the config's, padding included")
    add('--batch', type=int, default=1, help='pictures at once')
    add('--table', action='store_true', help='also a line per module')
    add('--json', metavar='FILE', help='write params, macs, flops, sampling_macs, input_size, batch, modules, latency')
    add('--bench', action='store_true', help=f'also the time of a batch on this device: {", ".join(WAYS)}')
    return parser.parse_args()


@run_tool
def main() -> None:
    """Build without memory, count, print; with --bench build and run."""
    args = parse_args()
    found = []
    for path in args.configs:
        cfg = load_config(path, args.cfg_options)
        size, (total, *modules) = count_config(cfg, args.shape and tuple(args.shape), args.batch)
        times = list(latencies(build_untrained(cfg.model), size, args.batch)) if args.bench else []
        if args.table:
            print(f'{path}\n{_table(modules)}')
        if len(args.configs) == 1:
            _describe(size, total, times, args.batch)
        found.append({'config': path, **_figures(total), 'input_size': list(size), 'batch': args.batch})
        found[-1]['modules'] = [{'name': cost.name, 'kind': cost.kind, **_figures(cost)} for cost in modules]
        if times:
            found[-1]['latency'] = {'device': device_name(), 'ways': [asdict(time) for time in times]}
    if len(args.configs) > 1:
        _compare(found, args.bench)
    if args.json:
        with atomic_write(Path(args.json), 'w') as file:
            file.write(json.dumps(found if len(found) > 1 else found[0], indent=1) + '\n')


def _figures(cost: Cost) -> dict[str, int]:
    return dict(params=cost.params, macs=cost.macs, flops=cost.flops, sampling_macs=cost.sampling_macs)


def _describe(size: tuple[int, int], total: Cost, times: list[Latency], batch: int) -> None:
    print(f'input {size[0]} x {size[1]} px (padding included), batch {batch}')
    print(f'parameters {total.params:,}')
    print(f'MACs {total.macs / 1e9:.3f} G, FLOPs {total.flops / 1e9:.3f} G')
    if total.sampling_macs:
        print(f'and {total.sampling_macs / 1e9:.3f} GMACs of sampling in deformable convolutions')
    if times:
        print(f'ms per batch of {batch} on {device_name()}:')
    for time in times:
        figures = f'{time.median_ms:9.2f} median {time.p95_ms:9.2f} p95, {time.runs} runs'
        print(f'{time.way:<14}{f"skipped: {time.skipped}" if time.skipped else figures}')


def _compare(found: list[dict], bench: bool) -> None:
    """One line per config; times are medians / 95th percentiles in ms."""
    columns = WAYS if bench else ()
    width = max(len(one['config']) for one in found)
    head = f'{"config":<{width}} {"input":>10} {"parameters":>13} {"GMACs":>9}'
    print(head + ''.join(f' {way:>17}' for way in columns))
    for one in found:
        size = ' x '.join(map(str, one['input_size']))
        line = f'{one["config"]:<{width}} {size:>10} {one["params"]:>13,} {one["macs"] / 1e9:>9.3f}'
        for time in one.get('latency', {}).get('ways', ()):
            ms = '-' if time['skipped'] else f'{time["median_ms"]:.2f} / {time["p95_ms"]:.2f}'
            line += f' {ms:>17}'
        print(line)
    skipped = {(time['way'], time['skipped']) for one in found for time in one.get('latency', {}).get('ways', ())}
    for way, reason in sorted(pair for pair in skipped if pair[1]):
        print(f'- {way} was skipped: {reason}')
    if bench:
        print(f'ms per batch of {found[0]["batch"]}, median / 95th percentile, on {device_name()}')


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
