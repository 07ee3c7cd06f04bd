"""Each family learns: a small config, trained and tested by the tools, has at most half of the constant answer's error.

On the synthetic world, with the persons of the test apart. One worker runs all of it, one after the other.
"""

import json

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
    """Close-up frames of 320 persons to train, 5 to validate, 25 to test."""
    out = tmp_path_factory.mktemp('learning') / 'synth_close'
    shape = ['--persons', 350, '--frames', 36, '--geometry', 'close', '--size', 160, 96]
    run_tool('prepare_data', 'synth', '--out', out, *shape, '--split-persons', 320, 5, 25)
    return out


def learn(config, data, work_dir, metric, epochs, *options):
    """Train and test as a user does: the figures of the test, the checkpoint, and the resolved config."""
    overrides = [f'data_root={data}', *options, f'train_cfg.max_epochs={epochs}', f'train_cfg.val_interval={epochs}']
    overrides += [f'{name}_dataloader.num_workers=0' for name in ('train', 'val', 'test')]
    run_tool('train', config, '--work-dir', work_dir, '--cfg-options', *overrides)
    checkpoint, out = newest_checkpoint(work_dir), work_dir / 'figures.json'
    run_tool('test', config, checkpoint, '--metric', metric, '--out', out, '--cfg-options', *overrides)
    return json.loads(out.read_text())['figures'], checkpoint, load_config(ROOT / config, overrides)


@pytest.fixture(scope='module')
def gaze_model(world, tmp_path_factory):
    """The figures and the checkpoint of the heatmap's network."""
    return learn('configs/ctdet_gaze/nano_synth_160.py', world, tmp_path_factory.mktemp('gaze'), 'pog', 3)[:2]


def test_ctdet_gaze_learns(gaze_model):
    figures = gaze_model[0]
    assert figures['pog/n_subjects'] == 25
    assert figures['pog/mean_mm'] <= 0.5 * figures['pog/constant_mean_mm']


def test_ctdet_gazeface_learns_the_face_beside_the_gaze(gaze_model, world, tmp_path):
    """From the weights of the one without the face's centre, whose head begins at random."""
    options = [f'load_from={gaze_model[1]}', 'optim_wrapper.optimizer.lr=1e-3']
    config = 'configs/ctdet_gazeface/nano_synth_160.py'
    figures, checkpoint, cfg = learn(config, world, tmp_path, 'pog', 1, *options)
    assert figures['pog/mean_mm'] <= 0.5 * figures['pog/constant_mean_mm']
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)['state_dict'])
    data = DATASETS.build(cfg.test_dataloader.dataset)
    batch = model.data_preprocessor(collate_gaze([data[i] for i in range(0, len(data), 5)]))
    with torch.no_grad():
        samples = model(**batch, mode='predict')
    found = np.array([sample.pred_face_center_px for sample in samples])
    true = np.array([sample.gt_face_box_px.reshape(2, 2).mean(axis=0) for sample in samples])
    error, constant = (np.linalg.norm(answer - true, axis=1).mean() for answer in (found, true.mean(axis=0)))
    assert error <= 0.5 * constant


def test_regression_learns(world, tmp_path):
    patch = ['normalise.normaliser.size_px=(64,64)', 'normalise.normaliser.focal_px=274']
    figures, _, _ = learn('configs/regression/nano_synth_96.py', world, tmp_path, 'gaze', 2, *patch)
    assert figures['gaze/n_subjects'] == 25
    assert figures['gaze/mean_deg'] <= 0.5 * figures['gaze/constant_mean_deg']


def test_landmark_learns_and_so_does_the_gaze_from_it(world, tmp_path):
    people = "subjects.train=['" + "','".join(f'p{number:04d}' for number in range(80)) + "']"
    figures, _, _ = learn('configs/landmark/pupilnet_synth_48_nano.py', world, tmp_path, 'all', 1, people)
    assert figures['landmarks/mean_px'] <= 0.5 * figures['landmarks/constant_mean_px']
    assert figures['gaze/mean_deg'] <= 0.5 * figures['gaze/constant_mean_deg']
