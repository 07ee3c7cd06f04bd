"""EVE's own files, from recording to table: written by the synthetic world, read, trained and tested by the tools."""

import json

import pytest
from conftest import run_tool

CONFIG = 'configs/ctdet_gaze/resdcn18_eve_480.py'


@pytest.mark.slow
def test_an_eve_recording_is_converted_trained_and_tested(tmp_path):
    source, data, work = tmp_path / 'EVE', tmp_path / 'eve', tmp_path / 'work'
    run_tool(
        'prepare_data', 'synth', '--out', source, '--format', 'eve', '--persons', 3, '--frames', 6, '--size', 480, 270,
        '--split-persons', 2, 1, 0,
    )  # fmt: skip
    run_tool('prepare_data', 'eve', '--src', source, '--out', data, '--camera', 'webcam_c', '--size', 480, 270)
    options = ['--cfg-options', f'data_root={data}', 'model.backbone.pretrained=None', 'train_cfg.max_epochs=1',
               'train_dataloader.batch_size=4', 'train_dataloader.num_workers=1', 'val_dataloader.batch_size=4',
               'val_dataloader.num_workers=1', 'test_dataloader.num_workers=1']  # fmt: skip
    done = run_tool('train', CONFIG, '--work-dir', work, *options)
    assert '128 x 72 cells of 9.09 mm' in done.stdout + done.stderr
    done = run_tool('test', CONFIG, work / 'model_1.pth', '--metric', 'all', '--out', tmp_path / 'm.json', *options)
    figures = json.loads((tmp_path / 'm.json').read_text())['figures']
    assert f'{figures["pog/mean_mm"]:.2f}' in done.stdout
    assert f'{figures["angle/mean_deg"]:.2f}' in done.stdout
    # EVE's angle: a point d mm off on a screen about 600 mm away; the chord bounds it for either rule.
    assert 0 < figures['angle/mean_deg'] < 90
    assert figures['pog/n'] == figures['angle/n'] > 0
