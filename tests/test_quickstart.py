"""The quickstart, small: same commands, same files, fewer pictures."""

import json

import numpy as np
from conftest import ROOT, run_tool


def test_quickstart_writes_its_summary_and_pictures(tmp_path):
    done = run_tool(
        'quickstart', '--persons', 6, '--frames', 8, '--data', tmp_path / 'data', '--work-dir', tmp_path / 'work',
        '--cfg-options', 'train_cfg.max_epochs=1', 'train_dataloader.batch_size=8',
    )  # fmt: skip
    summary = json.loads((tmp_path / 'work' / 'summary.json').read_text())
    assert set(summary) == {'pog_mean_mm', 'constant_mean_mm', 'angle_mean_deg', 'train_seconds', 'n_test', 'pictures'}
    assert summary['n_test'] == 8
    assert all(np.isfinite(value) for name, value in summary.items() if name != 'pictures')
    assert all((ROOT / path).is_file() for path in summary['pictures'])
    assert len(summary['pictures']) == 8
    assert f'{summary["pog_mean_mm"]:.1f} mm' in done.stdout
    assert '$ python tools/train.py configs/ctdet_gaze/nano_synth_160.py' in done.stdout
