"""Each family learns: a small config, trained and tested by the tools, has at most half of the constant answer's error.

On the synthetic world, with the persons of the test apart. One worker runs all of it, one after the other.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, run_tool

from evg.config import load_config
from evg.datasets.collate import collate_gaze
from evg.engine.launch import newest_checkpoint
from evg.registry import DATASETS, MODELS

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group('learning')]


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Frames of 170 persons to train, 5 to validate, 25 to test."""
    out = tmp_path_factory.mktemp('learning') / 'synth_close'
    shape = ['--persons', 200, '--frames', 18, '--geometry', 'close', '--size', 160, 96]
    run_tool('prepare_data', 'synth', '--out', out, *shape, '--split-persons', 170, 5, 25, '--jobs', 1)
    return out


@pytest.fixture(scope='module')
def faces(world):
    """Windows after the faces: a small network finds the gaze in the whole frames too, but needs ten times as long."""
    out = world.with_name('synth_faces')
    subprocess.run([sys.executable, ROOT / 'benchmarks' / 'face_windows.py', world, out], cwd=ROOT, check=True)
    return out


def learn(config, data, work_dir, metric, epochs, *options):
    """Train and test as a user does: the figures of the test, the checkpoint, and the resolved config."""
    loaders = [f'{name}_dataloader.num_workers=0' for name in ('train', 'val', 'test')]
    once = [f'{key}={epochs}' for key in ('max_epochs', 'val_interval')]
    overrides = [f'data_root={data}', *loaders, *(f'train_cfg.{key}' for key in once)]
    overrides += [f'default_hooks.checkpoint.interval={epochs}', 'train_dataloader.batch_size=16', *options]
    overrides += ['photometric.prob=0', 'param_scheduler.0.end=30']
    run_tool('train', config, '--work-dir', work_dir, '--cfg-options', *overrides)
    checkpoint, out = newest_checkpoint(work_dir), work_dir / 'figures.json'
    run_tool('test', config, checkpoint, '--metric', metric, '--out', out, '--cfg-options', *overrides)
    return json.loads(out.read_text())['figures'], checkpoint, load_config(ROOT / config, overrides)


FACES = ['input_frame.size=(64,64)', 'pog_weight=1.0']


@pytest.fixture(scope='module')
def gaze_model(faces, tmp_path_factory):
    """ctdet_gaze from random weights."""
    options = [*FACES, 'codec.sigma=1.5']
    return learn('configs/ctdet_gaze/nano_synth_160.py', faces, tmp_path_factory.mktemp('gaze'), 'pog', 8, *options)


def test_ctdet_gaze_learns(gaze_model):
    figures = gaze_model[0]
    print(f'{figures["pog/mean_mm"]:.1f} of {figures["pog/constant_mean_mm"]:.1f} mm')
    assert figures['pog/n_subjects'] == 25
    assert figures['pog/mean_mm'] <= 0.5 * figures['pog/constant_mean_mm']


def test_ctdet_gazeface_learns_the_face_beside_the_gaze(gaze_model, faces, tmp_path):
    """From the backbone and decoder of the one without the face's centre; the heads begin at random."""
    # Half the stride, so that the middle of a cell is near enough to a face's centre.
    fine = ['model.neck.channels=(48,32,24,16)', 'codec.stride=2', 'codec.sigma=3.0', 'face_codec.stride=2']
    options = [*FACES, *fine, f'load_from={gaze_model[1]}', 'optim_wrapper.optimizer.lr=1e-3']
    config = 'configs/ctdet_gazeface/nano_synth_160.py'
    figures, checkpoint, cfg = learn(config, faces, tmp_path, 'pog', 4, *options)
    assert figures['pog/mean_mm'] <= 0.5 * figures['pog/constant_mean_mm']
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)['state_dict'])
    data = DATASETS.build(cfg.test_dataloader.dataset)
    batch = model.data_preprocessor(collate_gaze([data[i] for i in range(0, len(data), 3)]))
    with torch.no_grad():
        samples = model(**batch, mode='predict')
    found = np.array([sample.pred_face_center_px for sample in samples])
    true = np.array([sample.gt_face_box_px.reshape(2, 2).mean(axis=0) for sample in samples])
    error, constant = (np.linalg.norm(answer - true, axis=1).mean() for answer in (found, true.mean(axis=0)))
    print(f'gaze {figures["pog/mean_mm"]:.1f} mm, face {error:.2f} of {constant:.2f} px')
    assert error <= 0.5 * constant


def test_regression_learns(world, tmp_path):
    patch = ['normalise.normaliser.size_px=(64,64)', 'normalise.normaliser.focal_px=274']
    figures, _, _ = learn('configs/regression/nano_synth_96.py', world, tmp_path, 'gaze', 4, *patch)
    print(f'{figures["gaze/mean_deg"]:.2f} of {figures["gaze/constant_mean_deg"]:.2f} deg')
    assert figures['gaze/n_subjects'] == 25
    assert figures['gaze/mean_deg'] <= 0.5 * figures['gaze/constant_mean_deg']


def test_landmark_learns_and_so_does_the_gaze_from_it(world, tmp_path):
    figures, _, _ = learn('configs/landmark/pupilnet_synth_48_nano.py', world, tmp_path, 'all', 1)
    print({key: round(value, 2) for key, value in figures.items() if 'mean' in key})
    assert figures['landmarks/mean_px'] <= 0.5 * figures['landmarks/constant_mean_px']
    assert figures['gaze/mean_deg'] <= 0.5 * figures['gaze/constant_mean_deg']
