"""Every config in configs/: loads, has its documented form, builds, takes one training step and predicts."""

import re

import numpy as np
import pytest
import torch
from conftest import CONFIGS, ROOT

from evg.config import load_config
from evg.datasets.collate import collate_gaze
from evg.registry import CODECS, DATASETS, MODELS

# Which fixture stands in for a data set: any index in a geometry of the same kind.
DATA = {
    'data/eve': 'synth_eve',
    'data/eve_640': 'synth_eve',
    'data/synth': 'synth_eve',
    'data/synth_640': 'synth_eve',
    'data/synth_close': 'synth_close',
    'data/mpiifacegaze': 'synth_eve',
    'data/gazecapture': 'synth_eve',
}


def _load(path, request):
    cfg = load_config(ROOT / path)
    folder = request.getfixturevalue(DATA[cfg.data_root])
    overrides = [f'data_root={folder}']
    if 'pretrained' in cfg.model.backbone:
        overrides.append('model.backbone.pretrained=None')
    if cfg.model.backbone.type == 'Hourglass':
        # A narrow one: the form is the same, 190 million parameters are built in test_architectures.py, on no device.
        narrow = {'dims': (16, 16, 24, 24, 24, 32), 'modules': (1, 1, 1, 1, 1, 1), 'out_channels': 16}
        overrides += [f'+model.backbone.{key}={value}' for key, value in narrow.items()]
    # The persons of a protocol are not in the fixture.
    overrides += [f'subjects.{role}=None' for role, persons in cfg.subjects.items() if persons is not None]
    return load_config(ROOT / path, overrides)


@pytest.mark.parametrize('path', CONFIGS)
def test_config_form(path, tmp_path):
    text = (ROOT / path).read_text()
    assert len(text.splitlines()) <= 40
    assert text.startswith('# ')
    name = path.split('/')[-1].removesuffix('.py')
    # {arch}_{dataset}_{size}[_{variant}]
    assert re.fullmatch(r'[a-z0-9]+_[a-z]+_\d+(_\w+)?', name)
    cfg = load_config(ROOT / path)
    assert '@' not in re.sub(r'#.*', '', cfg.pretty_text)
    cfg.dump(tmp_path / 'dumped.py')
    assert load_config(tmp_path / 'dumped.py').to_dict() == cfg.to_dict()
    # The name says what is inside.
    arch, dataset, size = name.split('_')[:3]
    assert cfg.input_frame['size'][0] == int(size)
    assert dataset in cfg.data_root
    backbone = cfg.model.backbone
    expected = {
        **{f'resdcn{depth}': ('ResNet', depth, 'dcn') for depth in (18, 34, 50, 101)},
        **{f'res{depth}': ('ResNet', depth, None) for depth in (18, 34, 50)},
        'dla34': ('DLA34', None, None),
        'hourglass': ('Hourglass', None, None),
        'mobv2': ('MobileNetV2', None, None),
        'nano': ('NanoNet', None, None),
    }
    assert (backbone.type, backbone.get('depth'), (cfg.model.neck or {}).get('refine')) == expected[arch]
    assert ('face_center' in cfg.model.heads) == ('ctdet_gazeface' in path)


@pytest.mark.parametrize('path', [path for path in CONFIGS if '_synth_' in path and 'nano' not in path])
def test_synthetic_twins_differ_only_in_data(path):
    ours, twin = load_config(ROOT / path), load_config(ROOT / path.replace('_synth_', '_eve_'))
    different = {key for key in ours if ours[key] != twin[key]}
    assert different <= {'data_root', 'splits', 'train_dataloader', 'val_dataloader', 'test_dataloader'}


@pytest.mark.parametrize('path', CONFIGS)
def test_config_trains_and_predicts(path, request, tmp_path):
    torch.manual_seed(0)
    cfg = _load(path, request)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    model = MODELS.build(cfg.model)
    codec = CODECS.build(cfg.codec)
    batch = collate_gaze([dataset[0], dataset[1]])
    width, height = codec.input_frame.input_size
    assert batch['inputs'].shape == (2, 3, height, width)
    data = model.data_preprocessor(batch, True)
    losses = model(**data, mode='loss')
    total = sum(value for name, value in losses.items() if name.startswith('loss'))
    assert torch.isfinite(total)
    total.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert not without
    # Predictions lie on the plane, and a reloaded model gives the same.
    samples = model.eval()(**data, mode='predict')
    torch.save(model.state_dict(), tmp_path / 'm.pth')
    again = MODELS.build(cfg.model).eval()
    again.load_state_dict(torch.load(tmp_path / 'm.pth', weights_only=True))
    first = [sample.pred_plane_mm.copy() for sample in samples]
    second = [sample.pred_plane_mm for sample in again(**data, mode='predict')]
    np.testing.assert_allclose(second, first, atol=1e-4)
    assert np.isfinite(first).all()


def test_an_override_reaches_encoder_and_decoder():
    overrides = ['codec.sigma=3', 'model.backbone.pretrained=None']
    cfg = load_config(ROOT / 'configs/ctdet_gaze/resdcn18_eve_480.py', overrides)
    model = MODELS.build(cfg.model)
    encoder = next(t for t in cfg.train_pipeline if t.type == 'GaussianTarget').codecs['gaze']
    in_loader = next(t for t in cfg.train_dataloader.dataset.pipeline if t.type == 'GaussianTarget').codecs['gaze']
    assert CODECS.build(encoder).sigma == CODECS.build(in_loader).sigma == model.codecs['gaze'].sigma == 3
    assert model.losses['pog'].codec.sigma == 3
    heatmap = CODECS.build(encoder).encode((1920, 1080))['target_heatmap']
    assert heatmap[0, 36, 67] == pytest.approx(np.exp(-0.5), rel=1e-6)
