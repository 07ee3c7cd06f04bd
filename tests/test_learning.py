"""Each family learns: a small config, trained and tested by the tools, has at most half of the constant answer's error.

On the synthetic world, persons of the test apart. One worker runs all of them, one after the other.
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

LOADERS = [f'{name}_dataloader.num_workers=0' for name in ('train', 'val', 'test')]


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """96 persons to train, 4 to validate, 20 to test; a low picture, so that the eyes are large in few pixels."""
    out = tmp_path_factory.mktemp('data') / 'synth_close'
    shape = ['--persons', 120, '--frames', 30, '--geometry', 'close', '--size', 256, 96]
    run_tool('prepare_data', 'synth', '--out', out, *shape, '--split-persons', 96, 4, 20, '--jobs', 1)
    return out


def learn(config, world, work_dir, metric, *options):
    """Train and test as a user does; figures of the test, and the trained model with its config."""
    overrides = [f'data_root={world}', *LOADERS, *options]
    run_tool('train', config, '--work-dir', work_dir, '--cfg-options', *overrides)
    checkpoint = newest_checkpoint(work_dir)
    out = ['--metric', metric, '--out', work_dir / 'figures.json']
    run_tool('test', config, checkpoint, *out, '--cfg-options', *overrides)
    figures = json.loads((work_dir / 'figures.json').read_text())['figures']
    return figures, checkpoint, load_config(ROOT / config, overrides)
