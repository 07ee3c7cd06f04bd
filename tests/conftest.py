"""What tests share: a small synthetic data set on disk, and the list of configs."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import cv2
import pytest
import torch

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / 'configs').glob('*/*.py') if p.parent.name != '_base_')

torch.set_num_threads(1)
cv2.setNumThreads(1)
os.environ.setdefault('OMP_NUM_THREADS', '1')


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests of one file that share what takes long to make run in one worker, which makes it once."""
    for item in items:
        fixtures = [fixture for same in item._fixtureinfo.name2fixturedefs.values() for fixture in same]
        if any(fixture.scope == 'module' for fixture in fixtures) and not item.get_closest_marker('xdist_group'):
            item.add_marker(pytest.mark.xdist_group(item.module.__name__))


@pytest.fixture(scope='session')
def synth_close(tmp_path_factory) -> Path:
    """12 persons of 8 close-up frames, prepared by the tool."""
    out = tmp_path_factory.mktemp('data') / 'synth_close'
    shape = ['--persons', 12, '--frames', 8, '--geometry', 'close', '--size', 160, 96]
    run_tool('prepare_data', 'synth', '--out', out, *shape)
    return out


@pytest.fixture(scope='session')
def synth_eve(tmp_path_factory) -> Path:
    """6 persons of 4 frames of 480 x 270 in EVE's geometry."""
    out = tmp_path_factory.mktemp('data') / 'synth'
    shape = ['--persons', 6, '--frames', 4, '--geometry', 'eve', '--size', 480, 270]
    run_tool('prepare_data', 'synth', '--out', out, *shape)
    return out


def run_tool(name, *args, code: int = 0, env: dict | None = None) -> subprocess.CompletedProcess:
    """Run tools/NAME.py as a user would and check its exit code."""
    command = [sys.executable, str(ROOT / 'tools' / f'{name}.py'), *map(str, args)]
    full_env = {**os.environ, **(env or {})}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=full_env, check=False)
    if done.returncode != code:
        tail = f'{done.stdout[-3000:]}\n{done.stderr[-3000:]}'
        raise AssertionError(f'{command} ended with {done.returncode}, not {code}:\n{tail}')
    return done


def without(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """An environment in which modules cannot be imported, in a process and those that it starts; `folder` is for it."""
    for name in names:
        line = f'raise ModuleNotFoundError("No module named {name!r}", name={name!r})\n'
        (folder / f'{name}.py').write_text(line, encoding='utf-8')
    return {**os.environ, 'PYTHONPATH': os.pathsep.join([str(folder), str(ROOT)]), 'EVG_TOKEN': ''}
