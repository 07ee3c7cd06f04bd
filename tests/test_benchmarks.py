"""The scripts of benchmarks/ that the project watches: each ratio has its bound, and `run.py` says what holds."""

import importlib.util
import json
import subprocess
import sys

import pytest
from conftest import ROOT

KEYS = {'pipeline_vs_floor', 'pipeline_vs_plain', 'runner_overhead', 'ort_vs_eager', 'int8_vs_fp32',
        'server_vs_session', 'conversion_vs_decode'}  # fmt: skip
FIGURES = {'pipeline_vs_floor': 0.8, 'pipeline_vs_plain': 2.9, 'runner_overhead': 0.06, 'ort_vs_eager': 0.6,
           'int8_vs_fp32': 1.2, 'server_vs_session': 0.85, 'conversion_vs_decode': 0.75, 'other': 1}  # fmt: skip
MISSED = {'pipeline_vs_plain', 'runner_overhead', 'int8_vs_fp32'}


@pytest.fixture
def run(monkeypatch):
    """benchmarks/run.py with scripts that answer at once."""
    spec = importlib.util.spec_from_file_location('benchmarks_run', ROOT / 'benchmarks' / 'run.py')
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, 'benchmarks_run', module)
    spec.loader.exec_module(module)
    module.asked = []
    monkeypatch.setattr(module, 'measure', lambda script, options: module.asked.append((script, *options)) or FIGURES)
    return module


def test_all_ratios_with_their_bounds(run, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, 'argv', ['run.py', '--all', '--json', str(tmp_path / 'f.json')])
    run.main()
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert set(lines) == KEYS
    assert {name for name, line in lines.items() if 'MISSED' in line} == MISSED
    assert sorted(name for name, *_ in run.asked) == ['conversion', 'deploy', 'pipeline', 'serve', 'train_step']
    found = json.loads((tmp_path / 'f.json').read_text())
    assert {name: found[name] for name in KEYS} == {name: FIGURES[name] for name in KEYS}
    assert found['bounds']['runner_overhead'] == 'at most 0.05'
    assert found['machine']['torch']


def test_one_ratio_runs_its_script_alone(run, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['run.py', 'server_vs_session', '--load-seconds', '600'])
    run.main()
    assert run.asked == [('serve', '--load-seconds', '600')]
    assert 'at least 0.85' in capsys.readouterr().out


@pytest.mark.parametrize('args', [[], ['--all', 'ort_vs_eager'], ['speed']])
def test_a_wrong_choice_lists_the_ratios(args):
    done = subprocess.run(
        [sys.executable, ROOT / 'benchmarks' / 'run.py', *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert 'runner_overhead' in done.stderr


def test_the_conversion_measures_its_ratio(tmp_path):
    """The whole way through a script, on the shortest recording."""
    short = ['--frames', '24', '--repeats', '1', '--json', tmp_path / 'f.json']
    subprocess.run([sys.executable, ROOT / 'benchmarks' / 'conversion.py', *short], check=True, cwd=ROOT)
    assert 0.1 < json.loads((tmp_path / 'f.json').read_text())['conversion_vs_decode'] < 1.5
