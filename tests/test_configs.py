"""Every config in configs/: loads, has its documented form, builds, takes one training step and predicts."""

import re
from functools import cache

import cv2
import numpy as np
import pytest
import torch
from conftest import CONFIGS, ROOT

from evg.config import load_config
from evg.datasets.collate import collate_gaze
from evg.datasets.gaze_dataset import GazeDataset
from evg.datasets.index import write_index
from evg.datasets.transforms import LoadImage, NormaliseFace
from evg.models.flops import build_on_meta
from evg.registry import CODECS, DATASETS, METRICS, MODELS

# Which fixture stands in for a data set: any index in a geometry of the same kind.
DATA = {
    'data/eve': 'synth_eve',
    'data/eve_640': 'synth_eve',
    'data/synth': 'synth_eve',
    'data/synth_640': 'synth_eve',
    'data/synth_close': 'synth_close',
    'data/synth_close_320': 'synth_close',
    'data/synth_close_960': 'synth_close',
    'data/mpiifacegaze': 'synth_eve',
    'data/gazecapture': 'synth_eve',
    'data/ethxgaze': 'patches',
    'data/gaze360': 'patches',
    'data/syntheseyes': 'patches',
}


def _resnet(depth):
    return dict(type='ResNet', depth=depth)


# What an arch in a name stands for: values of the model's config.
ARCHS = {
    **{f'resdcn{depth}': {'backbone': _resnet(depth), 'neck': {'refine': 'dcn'}} for depth in (18, 34, 50, 101)},
    **{f'res{depth}': {'backbone': _resnet(depth), 'neck': {'refine': None}} for depth in (18, 34, 50)},
    **{f'resnet{depth}': {'backbone': _resnet(depth), 'neck': None} for depth in (18, 50)},
    'dla34': {'backbone': dict(type='DLA34'), 'neck': None},
    'hourglass': {'backbone': dict(type='Hourglass'), 'neck': None},
    'mobv2': {'backbone': dict(type='MobileNetV2')},
    'mobv2035': {'backbone': dict(type='MobileNetV2', width=0.35)},
    'mobv201': {'backbone': dict(type='MobileNetV2', width=0.1)},
    'mobv4s': {'backbone': dict(type='TimmBackbone', name='mobilenetv4_conv_small')},
    'nano': {'backbone': dict(type='NanoNet')},
    'gazenetv1': {'backbone': dict(type='GazeNet'), 'neck': None, 'heads': {'gaze': {'hidden': None}}},
    'gazenetv2': {'backbone': dict(type='GazeNet'), 'neck': None, 'heads': {'gaze': {'hidden': 1024}}},
    'spanet': {'backbone': dict(type='SpaNet'), 'neck': None},
    'pupilnet': {'backbone': dict(type='PupilNet'), 'neck': None},
}
# The heads of a folder, and of a variant in a name where it has other ones.
HEADS = {
    'ctdet_gaze': {'HeatmapHead', 'OffsetHead'},
    'ctdet_gazeface': {'HeatmapHead', 'OffsetHead', 'FaceCenterHead'},
    'regression': {'PitchYawHead'},
    'landmark': {'LandmarkHead'},
    'vp': {'VPPointHead'},
    'l2cs': {'BinnedPitchYawHead'},
}
# The shape of each answer, by codec: px of the picture, mm of the plane, unit vectors of the codec's gaze_frame.
ANSWERS = {
    'VPHeatmapCodec': {'pred_plane_mm': (2,), 'pred_vp_px': (2,), 'pred_score': ()},
    'VPPointCodec': {'pred_plane_mm': (2,), 'pred_vp_px': (2,)},
    'FaceCenterCodec': {'pred_face_center_px': (2,)},
    'PitchYawCodec': {'pred_gaze': (3,), 'pred_pitchyaw_rad': (2,)},
    'BinnedPitchYawCodec': {'pred_gaze': (3,), 'pred_pitchyaw_rad': (2,)},
    'LandmarkHeatmapCodec': {'pred_landmarks_px': (8, 2), 'pred_score': ()},
}
PARAMETERS = {
    'regression/resnet18_ethxgaze_224': 11_177_538,
    'regression/spanet_ethxgaze_224': 408_648,
    'regression/gazenetv1_syntheseyes_120': 1_758_774,
    'regression/gazenetv2_syntheseyes_120': 3_854_902,
    'landmark/pupilnet_syntheseyes_120': 372_104,
}


@pytest.fixture(scope='session')
def patches(synth_close, tmp_path_factory):
    """Makes an index of four stored right-eye patches, in a frame that it declares, as data sets of patches have it."""

    @cache
    def make(gaze_frame):
        out = tmp_path_factory.mktemp('patches')
        normalise = NormaliseFace(dict(focal_px=600, distance_mm=600, size_px=(60, 40)), 'right_eye')
        rows = []
        for number, results in enumerate(GazeDataset(synth_close, [LoadImage(), normalise], max_samples=4)):
            cv2.imwrite(str(out / f'{number}.png'), results['img'])
            pupils = results['gt_pupil_landmarks_px']
            row = {'sample_id': str(number), 'image': f'{number}.png', 'split': 'train', 'subject': 'p'}
            rows.append({**row, 'gaze': results['gt_gaze'], 'pupil_landmarks_px': pupils})
        write_index(out / 'index.parquet', rows, {}, 'patches', gaze_frame)
        return out

    return make


def _load(path, request):
    cfg = load_config(ROOT / path)
    folder = request.getfixturevalue(DATA[cfg.data_root])
    if DATA[cfg.data_root] == 'patches':
        folder = folder(cfg.get('gaze_frame', 'camera'))
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


def _assert_holds(expected, value, where):
    """The keys of a nested dict have the values of another; None stands for a missing key, too."""
    for key, wanted in expected.items():
        found = (value or {}).get(key)
        if isinstance(wanted, dict):
            _assert_holds(wanted, found, f'{where}.{key}')
        else:
            assert found == wanted, f'{where}.{key}'


@pytest.mark.parametrize('path', CONFIGS)
def test_config_form(path, tmp_path):
    text = (ROOT / path).read_text()
    assert len(text.splitlines()) <= 40
    assert text.startswith('# ')
    folder, name = path.removesuffix('.py').split('/')[-2:]
    # {arch}_{dataset}_{size}[_{variant}]
    assert re.fullmatch(r'[a-z0-9]+_[a-z0-9]+_\d+(_\w+)?', name)
    cfg = load_config(ROOT / path)
    assert '@' not in re.sub(r'#.*', '', cfg.pretty_text)
    cfg.dump(tmp_path / 'dumped.py')
    assert load_config(tmp_path / 'dumped.py').to_dict() == cfg.to_dict()
    # The name says what is inside.
    arch, dataset, size, variant = (*name.split('_', 3), '')[:4]
    assert cfg.input_frame['size'][0] == int(size)
    assert dataset in cfg.data_root
    _assert_holds(ARCHS[arch], cfg.model, 'model')
    assert {head.type for head in cfg.model.heads.values() if head} == HEADS.get(variant, HEADS[folder])


@pytest.mark.parametrize('path', CONFIGS)
def test_what_a_run_watches_is_measured(path):
    """The best checkpoint and the early stop go by figures that the metrics of the validation have."""
    cfg = load_config(ROOT / path)
    prefixes = {METRICS.build(metric).default_prefix for metric in cfg.val_evaluator}
    watched = [cfg.default_hooks.checkpoint.save_best, *([cfg.early_stop.monitor] if cfg.early_stop else [])]
    assert {key.split('/')[0] for key in watched} <= prefixes
    assert cfg.test_evaluator == cfg.val_evaluator


@pytest.mark.parametrize('path', CONFIGS)
def test_the_learning_rate_is_for_the_batch_of_the_config(path):
    cfg = load_config(ROOT / path)
    assert cfg.auto_scale_lr.base_batch_size == cfg.train_dataloader.batch_size


@pytest.mark.parametrize('path', CONFIGS)
def test_synthetic_twins_differ_only_in_data(path):
    if '_synth_' not in path or 'nano' in path:
        return
    ours = load_config(ROOT / path)
    if (twin := ROOT / path.replace('_synth_', '_eve_')).is_file():
        other = load_config(twin)
        different = {key for key in ours if ours[key] != other[key]}
        assert different <= {'data_root', 'splits', 'train_dataloader', 'val_dataloader', 'test_dataloader'}
    else:
        other = load_config(ROOT / path.replace('_synth_', '_syntheseyes_'))
        for key in ('input_frame', 'preprocessor', 'photometric', 'optim_wrapper', 'param_scheduler', 'train_cfg'):
            assert ours[key] == other[key], key
        assert (ours.model.backbone, ours.model.heads) == (other.model.backbone, other.model.heads)


@pytest.mark.parametrize('name', PARAMETERS)
def test_parameters(name):
    model = build_on_meta(load_config(ROOT / f'configs/{name}.py').model)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize('path', CONFIGS)
def test_config_trains_and_predicts(path, request, tmp_path):
    torch.manual_seed(0)
    cfg = _load(path, request)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    model = MODELS.build(cfg.model)
    codecs = [CODECS.build(codec) for codec in cfg.codecs.values()]
    batch = collate_gaze([dataset[0], dataset[1]])
    width, height = codecs[0].input_frame.input_size
    assert batch['inputs'].shape == (2, 3, height, width)
    data = model.data_preprocessor(batch, True)
    losses = model(**data, mode='loss')
    total = sum(value for name, value in losses.items() if name.startswith('loss'))
    assert torch.isfinite(total)
    total.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without
    # Every answer is finite and of its codec's shape and frame; a model built from the dumped config gives the same.
    expected = {name: shape for codec in codecs for name, shape in ANSWERS[type(codec).__name__].items()}
    if getattr(codecs[0], 'eye', None) is not None:
        expected['pred_gaze'] = (3,)
    cfg.dump(tmp_path / 'dumped.py')
    torch.save(model.state_dict(), tmp_path / 'm.pth')
    again = MODELS.build(load_config(tmp_path / 'dumped.py').model).eval()
    again.load_state_dict(torch.load(tmp_path / 'm.pth', weights_only=True))
    first, second = ([vars(s).copy() for s in m.eval()(**data, mode='predict')] for m in (model, again))
    for one, other in zip(first, second, strict=True):
        for name, shape in expected.items():
            assert np.shape(one[name]) == shape
            assert np.isfinite(one[name]).all()
            np.testing.assert_allclose(other[name], one[name], atol=1e-4, err_msg=name)
        if 'pred_gaze' in expected:
            assert np.linalg.norm(one['pred_gaze']) == pytest.approx(1, abs=1e-5)
            normaliser = getattr(getattr(codecs[0], 'eye', None), 'normaliser', None)
            assert one['gaze_frame'] == (normaliser.gaze_frame if normaliser else codecs[0].gaze_frame)


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


def test_an_experiment_on_gaze_vectors_is_five_lines(tmp_path):
    """Runtime, monitor and metric come with the base."""
    lines = [
        f"_base_ = '{ROOT}/configs/regression/nano_synth_96.py'",
        'model = dict(backbone=dict(channels=(16, 24, 32, 48, 64)), heads=dict(gaze=dict(hidden=32)))',
        "early_stop = dict(type='EarlyStopByDelta', monitor='gaze/mean_deg', patience=2, delta=0.5)",
        'train_cfg = dict(max_epochs=3)',
        'optim_wrapper = dict(optimizer=dict(lr=1e-3))',
    ]
    (tmp_path / 'mine_synth_96.py').write_text('\n'.join(lines))
    cfg = load_config(tmp_path / 'mine_synth_96.py')
    assert cfg.default_hooks.checkpoint.save_best == 'gaze/mean_deg'
    assert [hook.delta for hook in cfg.custom_hooks if hook and hook.type == 'EarlyStopByDelta'] == [0.5]
    assert [metric.type for metric in cfg.val_evaluator] == ['GazeError']
    assert MODELS.build(cfg.model).heads['gaze'].layers[-1].in_features == 32
