"""The whole path in one command: render synthetic data, train a small model, test it on new persons, draw pictures."""

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

from evg.errors import UserError, needs, run_tool

with needs('train'):
    from evg.engine.launch import newest_checkpoint
    from evg.evaluation.report import write_json

ROOT = Path(__file__).resolve().parent.parent
CONFIG = 'configs/ctdet_gaze/nano_synth_160.py'


def call(tool: str, *args: object) -> float:
    """Run one tool as a user would, showing the command; returns its seconds."""
    words = [f'tools/{tool}.py', *map(str, args)]
    print(f'\n$ python {shlex.join(words)}', flush=True)
    start = time.monotonic()
    done = subprocess.run([sys.executable, *words], cwd=ROOT, check=False)
    if done.returncode:
        raise UserError(f'tools/{tool}.py ended with exit code {done.returncode}; its message stands above')
    return time.monotonic() - start


@run_tool
def main() -> None:
    """Prepare, train, test, summarise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--persons', type=int, default=400, help='synthetic persons')
    parser.add_argument('--frames', type=int, default=40, help='frames of each person')
    parser.add_argument('--data', default='data/synth_close', help='where the data go; finished data are used again')
    parser.add_argument('--work-dir', default='work_dirs/quickstart', help='where the results go')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='override the config')
    args = parser.parse_args()
    data, work_dir = Path(args.data), Path(args.work_dir)
    shape = ['--persons', args.persons, '--frames', args.frames, '--geometry', 'close', '--size', 160, 96]
    call('prepare_data', 'synth', '--out', data, *shape)
    options = ['--cfg-options', f'data_root={data}', *args.cfg_options]
    seconds = call('train', CONFIG, '--work-dir', work_dir, *options)
    checkpoint = newest_checkpoint(ROOT / work_dir)
    figures = {}
    for metric in ('angle', 'pog'):
        out, pictures = work_dir / f'{metric}.json', work_dir / 'pictures'
        show = ['--show-dir', pictures] if metric == 'pog' else []
        call('test', CONFIG, checkpoint, '--metric', metric, '--out', out, *show, *options)
        figures.update(json.loads((ROOT / out).read_text())['figures'])
    summary = {
        'pog_mean_mm': figures['pog/mean_mm'],
        'constant_mean_mm': figures['pog/constant_mean_mm'],
        'angle_mean_deg': figures['angle/mean_deg'],
        'train_seconds': round(seconds, 1),
        'n_test': figures['pog/n'],
        'pictures': sorted(str(pictures / path.name) for path in (ROOT / pictures).glob('*.jpg')),
    }
    write_json(ROOT / work_dir / 'summary.json', summary)
    print(
        f'\nOn {summary["n_test"]} pictures of persons that it never saw the model is off by '
        f'{summary["pog_mean_mm"]:.1f} mm and {summary["angle_mean_deg"]:.2f} degrees on average; always answering the '
        f'training mean is off by {summary["constant_mean_mm"]:.1f} mm '
        f'({summary["pog_mean_mm"] / summary["constant_mean_mm"]:.2f} of it). '
        f'Training took {seconds / 60:.1f} minutes.\n'
        f'Pictures (red: truth, yellow: prediction): {pictures}\nSummary: {work_dir / "summary.json"}'
    )


if __name__ == '__main__':
    main()
