"""Every ratio that the project watches, each measured against a bare baseline in the same run, with its bound.

    python benchmarks/run.py --all [--json F] [--load-seconds S]
    python benchmarks/run.py runner_overhead conversion_vs_decode

Takes about a quarter of an hour on two quiet cores; the scripts can be run by themselves, with more options.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from evg.errors import UserError, run_tool
from evg.evaluation.report import write_json

HERE = Path(__file__).resolve().parent
PACKAGES = ('torch', 'torchvision', 'onedl-mmengine', 'opencv-python', 'numpy', 'onnxruntime', 'av')


@dataclass(frozen=True)
class Ratio:
    """A figure of a script's JSON, and what it should be."""

    script: str
    at_least: float | None
    at_most: float | None
    meaning: str

    def bound(self) -> str:
        """In words."""
        return f'at least {self.at_least}' if self.at_most is None else f'at most {self.at_most}'

    def holds(self, value: float) -> bool:
        """Whether a figure is within the bound."""
        return value >= self.at_least if self.at_most is None else value <= self.at_most


RATIOS = {
    'pipeline_vs_floor': Ratio('pipeline', 0.8, None, 'samples a second: the loader / cv2 decoding and one warp'),
    'pipeline_vs_plain': Ratio('pipeline', 3, None, "samples a second: the loader / the originals' way in numpy"),
    'runner_overhead': Ratio('train_step', None, 0.05, 'time of a step: runner / bare loop - 1'),
    'ort_vs_eager': Ratio('deploy', None, 0.6, 'time of a picture: ONNX Runtime / eager torch'),
    'int8_vs_fp32': Ratio('deploy', None, 1.0, 'time of a picture: INT8 / fp32 in ONNX Runtime'),
    'server_vs_session': Ratio('serve', 0.85, None, 'pictures a second: server / bare session'),
    'conversion_vs_decode': Ratio('conversion', 0.7, None, 'frames a second: prepare_data / decoding alone'),
}
# Shorter than the scripts' own defaults, where those are for more than the ratio.
OPTIONS = {'deploy': ['--threads', '1', '--seconds', '8'], 'train_step': ['--batches', '6', '--rounds', '5']}


def measure(script: str, options: Sequence[str] = ()) -> dict[str, Any]:
    """Run a script; its figures."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / 'figures.json'
        command = [sys.executable, str(HERE / f'{script}.py'), *OPTIONS.get(script, []), *options, '--json', str(out)]
        done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f'benchmarks/{script}.py failed:\n{(done.stdout + done.stderr)[-2000:]}')
        return json.loads(out.read_text())


def machine() -> dict[str, Any]:
    """Where the figures were made."""
    names = [line.split(':')[1].strip() for line in _cpuinfo() if line.startswith('model name')]
    cpu = names[0] if names else platform.processor()
    versions = {name: version(name) for name in PACKAGES}
    return {'cpu': cpu, 'cores': os.cpu_count(), 'python': platform.python_version(), **versions}


def _cpuinfo() -> list[str]:
    path = Path('/proc/cpuinfo')
    return path.read_text().splitlines() if path.is_file() else []


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('ratios', nargs='*', metavar='RATIO', help='which ones')
    parser.add_argument('--all', action='store_true', help='all of them')
    parser.add_argument('--json', help='write ratios, all figures of the scripts, and the machine to this file')
    parser.add_argument('--load-seconds', type=int, default=20, help='how long 8 clients load the server')
    args = parser.parse_args()
    if args.all == bool(args.ratios) or set(args.ratios) - set(RATIOS):
        parser.error(f'give --all, or some of {", ".join(RATIOS)}')
    return args


@run_tool
def main() -> None:
    """Measure, print a line for each ratio, write."""
    args = parse_args()
    wanted = list(RATIOS) if args.all else args.ratios
    figures: dict[str, Any] = {}
    for name in wanted:
        ratio = RATIOS[name]
        if ratio.script not in figures:
            print(f'benchmarks/{ratio.script}.py ...', file=sys.stderr, flush=True)
            load = ['--load-seconds', str(args.load_seconds)] if ratio.script == 'serve' else []
            figures[ratio.script] = measure(ratio.script, load)
        value = figures[ratio.script][name]
        verdict = 'holds' if ratio.holds(value) else 'MISSED'
        print(f'{name:22} {value:8.3f}   {ratio.bound():14} {verdict:7} {ratio.meaning}', flush=True)
    if args.json:
        found = {name: figures[RATIOS[name].script][name] for name in wanted}
        bounds = {name: RATIOS[name].bound() for name in wanted}
        write_json(args.json, {**found, 'bounds': bounds, 'machine': machine(), 'figures': figures})


if __name__ == '__main__':
    main()
