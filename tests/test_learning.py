"""Each family learns: a small config, trained and tested by the tools, has at most half of the constant answer's error.

On the synthetic world, with the persons of the test apart. One worker runs all of it, one after the other.
"""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, run_tool

from evg.config import load_config
from evg.datasets.collate import collate_gaze
from evg.datasets.index import read_index, write_index
from evg.engine.launch import newest_checkpoint
from evg.registry import DATASETS, MODELS

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group('learning')]

LABELS = ('pog_screen_px', 'pog_plane_offset_mm', 'target_cam_mm', 'face_origin_mm')
# The window of the frames that holds the faces: what a longer lens would show, at a fraction of the cost.
LEFT, TOP, WIDTH, HEIGHT = 32, 16, 96, 64


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Frames of 96 persons to train, 4 to validate, 20 to test."""
    out = tmp_path_factory.mktemp('learning') / 'synth_close'
    shape = ['--persons', 120, '--frames', 30, '--geometry', 'close', '--size', 160, 96]
    run_tool('prepare_data', 'synth', '--out', out, *shape, '--split-persons', 96, 4, 20, '--jobs', 1)
    return out


@pytest.fixture(scope='module')
def faces(world):
    """The same frames, cut to the window, as a data set of its own."""
    index, out = read_index(world), world.with_name('synth_window')
    out.mkdir()
    ((name, rig),) = index.rigs.items()
    shift = np.array([LEFT, TOP])
    matrix = rig.camera_matrix - np.pad(shift[:, None], ((0, 1), (2, 0)))
    rows = []
    for number in range(len(index)):
        text = {key: index.columns.text(key, number) for key in ('sample_id', 'image', 'split', 'subject', 'rig')}
        picture = cv2.imread(str(world / text['image']))[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH]
        cv2.imwrite(str(out / f'{number}.png'), picture)
        box = index.columns['face_box_px'][number].reshape(2, 2) - shift
        row = {key: index.columns[key][number] for key in LABELS}
        row['face_box_px'] = np.clip(box, 0, (WIDTH - 1, HEIGHT - 1)).reshape(-1)
        rows.append({**row, **text, 'image': f'{number}.png'})
    write_index(out / 'index.parquet', rows, {name: replace(rig, image_size=(WIDTH, HEIGHT), camera_matrix=matrix)}, 'synth')
    return out


def learn(config, data, work_dir, metric, *options):
    """Train and test as a user does: the figures of the test, the trained model and its config."""
    loaders = [f'{name}_dataloader.num_workers=0' for name in ('train', 'val', 'test')]
    overrides = [f'data_root={data}', *loaders, 'photometric.prob=0', 'param_scheduler.0.end=30', *options]
    run_tool('train', config, '--work-dir', work_dir, '--cfg-options', *overrides)
    checkpoint, out = newest_checkpoint(work_dir), work_dir / 'figures.json'
    run_tool('test', config, checkpoint, '--metric', metric, '--out', out, '--cfg-options', *overrides)
    figures = json.loads(out.read_text())['figures']
    cfg = load_config(ROOT / config, overrides)
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)['state_dict'])
    return figures, model, cfg
