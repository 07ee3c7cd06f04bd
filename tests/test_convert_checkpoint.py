"""The originals' checkpoints: every tensor lands, and the network answers as the original's own forward does."""

import hashlib
from collections import OrderedDict

import numpy as np
import originals
import pytest
import timm
import torch
from conftest import ROOT, run_tool

from evg.config import load_config
from evg.engine.convert import convert_checkpoint
from evg.engine.launch import load_weights
from evg.engine.leak_guard import provenance, provenance_lines
from evg.engine.meaning import check_meaning
from evg.engine.storage import load_checkpoint_file
from evg.errors import UserError
from evg.models.flops import build_untrained

NARROW = dict(dims=(16, 16, 24), modules=(2, 1, 2), out_channels=16)
HEADS = {'hm': ('heatmap', 1), 'reg': ('offset', 2), 'pog': ('', 1), 'face_hm': ('face_heatmap', 1)}


def _with_heads(net, features, width, heads, twice=()):
    return {name: net.head(name, features, width, 2 if name in twice else HEADS[name][1]) for name in heads}


def _resnet(depth, channels, deformable):
    def forward(net, x):
        return originals.decoder(net, originals.resnet(net, x, depth), channels, deformable)

    return forward


def _mobilenet(width):
    return lambda net, x: originals.decoder(net, originals.mobilenet(net, x, width), (40, 40, 40), False)


PLAIN, FACE = ('hm', 'reg', 'pog'), ('hm', 'reg', 'pog', 'face_hm')
# config, features of the original, width of the heads, heads, parameters without the pog head
CENTERNET = {
    'resdcn_18': ('ctdet_gaze/resdcn18_eve_480', _resnet(18, (256, 128, 64), True), 64, PLAIN, 14_395_156),
    'resdcn_50': ('ctdet_gaze/resdcn50_eve_480', _resnet(50, (256, 128, 64), True), 64, PLAIN, 30_638_868),
    'resdcnface_18': ('ctdet_gazeface/resdcn18_eve_480', _resnet(18, (256, 128, 64), True), 64, FACE, 14_432_149),
    'res_34': ('ctdet_gaze/res34_eve_480', _resnet(34, (256, 256, 256), False), 64, PLAIN[:2], 25_775_747),
    'mobv2': ('ctdet_gaze/mobv2_eve_480', _mobilenet(1.0), 64, PLAIN, 2_217_395),
    'mobv2035': ('ctdet_gaze/mobv2035_eve_480', _mobilenet(0.35), 64, PLAIN, 589_331),
    'mobv201': ('ctdet_gaze/mobv201_eve_480', _mobilenet(0.1), 64, PLAIN, 356_083),
    # With the two projections that are not used.
    'dla_34': ('ctdet_gaze/dla34_eve_480', originals.dla34, 256, PLAIN, 19_465_635 + 41_728),
}


def _config(path, *overrides):
    return load_config(ROOT / 'configs' / f'{path}.py', list(overrides))


def _convert(state, cfg, folder, wrap='state_dict', **more):
    """Through files, as a user would: the network with the converted weights, in double precision, and the lines."""
    torch.save({wrap: state, **more} if wrap else state, folder / 'theirs.pth')
    lines = convert_checkpoint(str(folder / 'theirs.pth'), cfg, folder / 'ours.pth')
    checkpoint = load_checkpoint_file(str(folder / 'ours.pth'))
    check_meaning(cfg, checkpoint, 'ours.pth')
    model = build_untrained(cfg.model).eval()
    load_weights(model, checkpoint, 'ours.pth')
    return model.double(), lines


def _close(ours, theirs):
    assert 1e-3 < theirs.abs().max() < 1e4
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def _doubled(net):
    """The same tensors in double precision, in which random offsets of random layers blow up no rounding."""
    net.state = {name: value.double() if value.is_floating_point() else value for name, value in net.state.items()}
    return net


def _pictures(size=(64, 32)):
    return torch.randint(0, 256, (2, 3, *size[::-1]), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize('arch', CENTERNET)
def test_centernet_and_evg(arch, tmp_path):
    path, features, width, heads, parameters = CENTERNET[arch]
    cfg = _config(path)
    pictures = _pictures()
    # EVG's input on EVE: BGR, as read, with ImageNet's constants in RGB order.
    constants = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).reshape(2, 1, 3, 1, 1)
    images = torch.from_numpy((pictures.numpy() / 255 - constants[0]) / constants[1])
    net = originals.Tensors()
    _with_heads(net, features(net, images.float()), width, heads)
    counted = {k: v.numel() for k, v in net.state.items() if not k.startswith('pog') and 'running' not in k}
    assert sum(n for name, n in counted.items() if 'num_batches' not in name) == parameters
    if arch == 'dla_34':
        net.get('base.fc.weight', (1000, 512, 1, 1), 1)
        net.get('base.fc.bias', (1000,), 1)
    state = OrderedDict((f'module.{name}', value) for name, value in net.state.items())
    model, lines = _convert(state, cfg, tmp_path, epoch=5, optimizer={'state': {}, 'param_groups': []})
    torch.testing.assert_close(
        model.data_preprocessor({'inputs': pictures})['inputs'].double(), images, rtol=0, atol=1e-6
    )
    expected, outputs = _with_heads(_doubled(net), features(net, images), width, heads), model(images)
    assert set(outputs) == {HEADS[name][0] for name in heads} - {''}
    for name, value in outputs.items():
        _close(value, next(expected[head] for head in heads if HEADS[head][0] == name))
    assert any('the head that no loss trains' in line for line in lines) == ('pog' in heads)
    assert any("dropped: 2 tensors, ImageNet's classifier" in line for line in lines) == (arch == 'dla_34')
    assert 'channel_order bgr' in ' '.join(lines)


@torch.no_grad()
def test_a_detector_of_centernet_is_a_start(tmp_path):
    """Its heads: 80 classes, boxes, offsets. None of them lands, all the rest does."""
    cfg, features = _config('ctdet_gaze/resdcn18_eve_480'), _resnet(18, (256, 128, 64), True)
    net = originals.Tensors()
    body = features(net, torch.randn(1, 3, 32, 64))
    rest = set(net.state)
    for name, classes in (('hm', 80), ('wh', 2), ('reg', 2)):
        net.head(name, body, 64, classes)
    torch.save({'state_dict': net.state}, tmp_path / 'detector.pth')
    with pytest.raises(UserError, match=r'no place in it: wh\.0\.weight.*hm\.2\.weight \(80'):
        convert_checkpoint(str(tmp_path / 'detector.pth'), cfg, tmp_path / 'start.pth')
    lines = convert_checkpoint(str(tmp_path / 'detector.pth'), cfg, tmp_path / 'start.pth', heads=False)
    assert 'dropped: 12 tensors, a head, not asked for' in lines
    state = load_checkpoint_file(str(tmp_path / 'start.pth'))['state_dict']
    model = build_untrained(cfg.model)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert (len(state), unexpected) == (len(rest), [])
    assert all(name.startswith('heads.') for name in missing)
    with pytest.raises(UserError, match=r'8 tensors are missing \(heads\.'):
        load_weights(model, load_checkpoint_file(str(tmp_path / 'start.pth')), 'start.pth')


@torch.no_grad()
def test_the_second_face_channel_of_mobv2face_is_dropped(tmp_path):
    net, images = originals.Tensors(), torch.randn(1, 3, 32, 64)
    _with_heads(net, _mobilenet(1.0)(net, images), 64, FACE, twice=('face_hm',))
    model, lines = _convert(net.state, _config('ctdet_gazeface/mobv2_eve_480'), tmp_path)
    images = images.double()
    expected = _with_heads(_doubled(net), _mobilenet(1.0)(net, images), 64, FACE, twice=('face_hm',))
    _close(model(images)['face_heatmap'], expected['face_hm'][:, :1])
    assert any("dropped: 2 tensors, mobv2face's second face channel" in line for line in lines)
    stored = torch.load(tmp_path / 'ours.pth', weights_only=True)['meta']['converted_from']
    assert 'face_hm.2.weight[1]' in stored['dropped']


@torch.no_grad()
def test_hourglass_with_a_head_on_each_stack(tmp_path):
    """Narrow; that the full one has the original's parameters is seen in test_architectures.py."""
    overrides = [f'+model.backbone.{key}={value}' for key, value in NARROW.items()]
    heads = [f'model.heads.{head}.head_conv=16' for head in ('heatmap', 'offset', 'face_center')]
    cfg = _config('ctdet_gazeface/hourglass_eve_480', *overrides, *heads)
    net, images = originals.Tensors(), torch.randn(1, 3, 64, 96)

    def forward(images):
        stacks = originals.hourglass(net, images, NARROW['dims'], NARROW['modules'])
        inner = [{n: net.conv(f'{n}.{i}.0.conv', x, 16, bias=True).relu() for n in FACE} for i, x in enumerate(stacks)]
        return [{n: net.conv(f'{n}.{i}.1', y[n], HEADS[n][1], 1, bias=True) for n in y} for i, y in enumerate(inner)]

    forward(images)
    model, lines = _convert(net.state, cfg, tmp_path)
    _doubled(net)
    images = images.double()
    expected = forward(images)
    for heads, features, theirs in zip(
        [*model.earlier_heads, model.heads], model.backbone(images), expected, strict=True
    ):
        for head in heads.values():
            _close(head(features), next(theirs[name] for name in FACE if HEADS[name][0] == head.output))
    assert any('dropped: 8 tensors, the head that no loss trains' in line for line in lines)


@torch.no_grad()
@pytest.mark.parametrize('wrapped', [True, False])
def test_eth_xgaze_and_resgaze(wrapped, tmp_path):
    """The baseline wraps its ResNet in DataParallel and the weights in 'model_state'; ResGaze does neither."""
    prefix = 'gaze_network.module.' if wrapped else 'gaze_network.'
    cfg = _config('regression/resnet50_ethxgaze_224')
    net, images = originals.Tensors(), torch.randn(2, 3, 64, 64)

    def forward(images):
        pooled = originals.resnet(net, images, 50, prefix).mean(dim=(2, 3))
        return pooled @ net.get('gaze_fc.0.weight', (2, 2048), 0.02).T + net.get('gaze_fc.0.bias', (2,), 0.1)

    forward(images)
    net.get(f'{prefix}fc.weight', (1000, 2048), 1)
    net.get(f'{prefix}fc.bias', (1000,), 1)
    more = dict(epoch=25, optim_state={}, scheule_state={'last_epoch': 24}) if wrapped else {}
    model, lines = _convert(net.state, cfg, tmp_path, 'model_state' if wrapped else '', **more)
    _doubled(net)
    _close(model(images.double())['pitchyaw'], forward(images.double()))
    assert any("dropped: 2 tensors, ImageNet's classifier" in line for line in lines)
    assert cfg.preprocessor.channel_order == 'rgb'
    stored = torch.load(tmp_path / 'ours.pth', weights_only=True)['meta']['converted_from']
    assert stored.get('epoch') == (25 if wrapped else None)
    assert stored['sha256'] == hashlib.sha256((tmp_path / 'theirs.pth').read_bytes()).hexdigest()


@torch.no_grad()
def test_rt_gaze_estimation(tmp_path):
    net = timm.create_model('resnet18', num_classes=2).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.weight.uniform_(0.5, 1)
    assert sum(p.numel() for p in net.parameters()) == 11_177_538
    images = torch.randn(2, 3, 96, 96)
    model, _ = _convert(net.state_dict(), _config('regression/resnet18_ethxgaze_224'), tmp_path, '')
    _close(model(images.double())['pitchyaw'], net.double()(images.double()))


def _mobv201():
    net = originals.Tensors()
    _with_heads(net, _mobilenet(0.1)(net, torch.zeros(1, 3, 32, 32)), 64, PLAIN)
    return net.state


def test_old_files_without_counts_of_batches(tmp_path):
    state = {name: value for name, value in _mobv201().items() if 'num_batches' not in name}
    cfg = _config('ctdet_gaze/mobv201_eve_480')
    torch.save({'state_dict': state}, tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    convert_checkpoint(str(tmp_path / 'old.pth'), cfg, tmp_path / 'ours.pth', 'centernet')
    counts = [
        v for k, v in load_checkpoint_file(str(tmp_path / 'ours.pth'))['state_dict'].items() if 'num_batches' in k
    ]
    assert counts and all(count == 0 and count.dtype == torch.int64 for count in counts)


def _without(state, *names):
    return {name: value for name, value in state.items() if name not in names}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s: _without(s, 'reg.2.bias'), r'1 tensors of it are not .*offset\.branch\.2\.bias$'),
        (lambda s: {**s, 'wh.2.bias': s['reg.2.bias']}, r'1 tensors of the file have no .*wh\.2\.bias$'),
        (lambda s: {**s, 'module.hm.2.bias': s['hm.2.bias']}, r'1 tensors of the file have no .*module\.hm\.2\.bias$'),
        (lambda s: {**s, 'hm.0.bias': torch.zeros(3)}, r'1 tensors have .*shape: hm\.0\.bias \(3,\), not \(64,\)$'),
        (lambda s: {'a.weight': s['hm.0.bias']}, r'names of the tensors \(a\.weight, .*centernet: CenterNet'),
        (lambda s: {**s, 'best': 3}, 'holds no state dict: best is no tensor'),
        (lambda s: {}, 'holds no state dict: it is empty'),
    ],
)
def test_what_does_not_fit_is_listed_and_nothing_is_written(change, message, tmp_path):
    _refused(change(_mobv201()), 'mobv201', 'auto', message, tmp_path)


@pytest.mark.parametrize(
    ('arch', 'original', 'message'),
    [
        ('mobv2035', 'auto', r'does not fit .* tensors have another shape: features\.0\.0\.weight.*, \.\.\.$'),
        ('dla34', 'auto', r'have no place in it: features\..*not in the file: backbone\.base'),
        ('mobv201', 'rtgaze', r"RT-GazeEstimation \(timm's resnet18\) does not fit"),
    ],
)
def test_another_network_is_named(arch, original, message, tmp_path):
    _refused(_mobv201(), arch, original, message, tmp_path)


def _refused(state, arch, original, message, folder):
    torch.save({'state_dict': state}, folder / 'theirs.pth')
    with pytest.raises(UserError, match=message):
        convert_checkpoint(
            str(folder / 'theirs.pth'), _config(f'ctdet_gaze/{arch}_eve_480'), folder / 'o.pth', original
        )
    assert not (folder / 'o.pth').exists()


class _Trap:
    def __reduce__(self):
        return open, (self.path, 'w')


def test_a_file_with_objects_in_it_is_refused_and_not_run(tmp_path):
    trap = _Trap()
    trap.path = str(tmp_path / 'ran')
    torch.save({'state_dict': _mobv201(), 'opt': trap}, tmp_path / 'theirs.pth')
    cfg = _config('ctdet_gaze/mobv201_eve_480')
    with pytest.raises(UserError, match='a file with other Python objects in it is never opened'):
        convert_checkpoint(str(tmp_path / 'theirs.pth'), cfg, tmp_path / 'ours.pth')
    assert not (tmp_path / 'ran').exists()


def test_the_tools_from_an_original_to_its_figures(synth_eve, tmp_path):
    torch.save({'epoch': 3, 'state_dict': _mobv201()}, tmp_path / 'model_last.pth')
    config, options = 'configs/ctdet_gaze/mobv201_synth_480.py', ['--cfg-options', f'data_root={synth_eve}']
    options += ['test_dataloader.num_workers=0', 'test_dataloader.batch_size=4']
    out = tmp_path / 'ours.pth'
    text = run_tool('convert_checkpoint', tmp_path / 'model_last.pth', config, out, *options).stdout
    assert 'dropped: 4 tensors, the head that no loss trains' in text
    assert '3840 x 2360' in text
    facts = provenance(_config('ctdet_gaze/mobv201_synth_480'), load_checkpoint_file(str(out)), str(out))
    line = 'checkpoint: converted from model_last.pth; not known on whom it was trained, nor how it was chosen'
    assert provenance_lines(facts) == [line]
    assert line in run_tool('test', config, out, '--metric', 'pog', *options).stdout
    cfg = _config('ctdet_gaze/mobv201_synth_480', 'ppm=3')
    with pytest.raises(UserError, match=r'was trained with codecs\.gaze\.ppm=3\.47'):
        check_meaning(cfg, load_checkpoint_file(str(out)), str(out))
    with pytest.raises(UserError, match='checkpoint of evg already'):
        convert_checkpoint(str(out), cfg, tmp_path / 'x.pth')
    with pytest.raises(UserError, match='give the new file another name'):
        convert_checkpoint(str(out), cfg, out)
