"""The runtime without torch gives what torch gives: pictures in, answers out; and it refuses what does not belong."""

import json
import re
import subprocess
import sys
import threading
from collections import Counter

import cv2
import fake_acl
import numpy as np
import pytest
import torch
from conftest import ROOT
from model_folders import model_folder, network

from evg.datasets.index import GAZE_FRAMES
from evg.datasets.transforms import Affine, Warp
from evg.deploy import acl_session, model_file
from evg.deploy.model_file import InputSpec, ModelFile, OutputSpec, Patch
from evg.deploy.runtime import GazeModel
from evg.errors import UserError
from evg.geometry import InputFrame, Normaliser, VirtualPlane
from evg.geometry.warp import normalise_input
from evg.models import GazePreprocessor
from evg.structures import GazeDataSample

SIZES = [(160, 96), (640, 360), (321, 241), (97, 211), (33, 17)]
IMAGENET = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def _picture(size, seed=0):
    """Smooth colours and hard noise."""
    rng = np.random.default_rng(seed)
    smooth = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), size, interpolation=cv2.INTER_CUBIC)
    noise = rng.integers(-60, 60, (size[1], size[0], 3))
    return np.clip(smooth.astype(int) + noise, 0, 255).astype(np.uint8)


def _train_side(image, frame, antialias):
    """The network's input by the transforms of a test pipeline, (H, W, 3) uint8, and the affine."""
    results = {
        'img': image,
        'image_size': image.shape[1::-1],
        'stored_to_picture': np.eye(2, 3),
        'gt_face_box_px': None,
    }
    results = Warp(antialias)(Affine(frame)(results))
    return results['img'], results['affine']


def _by_torch(model, frame, images):
    """Answers and raw outputs of the estimator."""
    pairs = [_train_side(image, frame, True) for image in images]
    inputs = torch.from_numpy(np.stack([picture.transpose(2, 0, 1) for picture, _ in pairs]))
    inputs = model.data_preprocessor({'inputs': inputs})['inputs']
    samples = [GazeDataSample('a', 'a.png', 'p', affine=affine) for _, affine in pairs]
    with torch.no_grad():
        outputs = model(inputs)
        return model.predict_from(outputs, samples), {name: value.numpy() for name, value in outputs.items()}


def _assert_same(answers, samples):
    """Within 0.05 mm on the plane, 0.05 px in the picture."""
    assert len(answers) == len(samples)
    for answer, sample in zip(answers, samples, strict=True):
        assert {'pred_plane_mm', 'pred_vp_px', 'pred_score', 'pred_face_center_px'} == set(answer)
        for name, value in answer.items():
            np.testing.assert_allclose(value, getattr(sample, name), rtol=0, atol=0.05, err_msg=name)
            assert isinstance(value, float) or value.dtype == np.float64


@pytest.fixture(scope='module')
def nano():
    return network()


@pytest.fixture(scope='module')
def images():
    return [_picture(size, seed) for seed, size in enumerate(SIZES)]


@pytest.fixture(scope='module')
def folder(nano, tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp('model') / 'nano', *nano, om='float32')


@pytest.fixture(scope='module')
def aipp_folder(nano, tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp('model') / 'aipp', *nano, batch=2, om='uint8')


def _use(monkeypatch, **options):
    acl = fake_acl.FakeAcl(**options)
    monkeypatch.setitem(sys.modules, 'acl', acl)
    monkeypatch.setattr(acl_session, '_SESSIONS', Counter())  # a test that fails leaves sessions behind
    monkeypatch.setattr(acl_session, '_STARTED', set())
    return acl


# Preparing a picture


@pytest.mark.parametrize('order', ['rgb', 'bgr'])
@pytest.mark.parametrize('antialias', [True, False])
@pytest.mark.parametrize(
    'frame',
    [
        InputFrame((480, 270), 31),
        InputFrame((480, 270), 127),
        InputFrame((160, 96), 0),
        InputFrame((512, 512), 0, keep_aspect=True),
        InputFrame((224, 224), 31, keep_aspect=True),
    ],
)
def test_a_picture_is_prepared_as_in_training(frame, antialias, order):
    spec = InputSpec(frame.input_size, frame, order, **IMAGENET, antialias=antialias)
    session = type('NoSession', (), {'takes_pixels': False})
    model = GazeModel(ModelFile('x', 'plane', spec, (), {}, 11), session, 'none')
    preprocessor = GazePreprocessor(**IMAGENET, channel_order=order)
    grey_level = 1 / 255 / np.max(IMAGENET['std'])
    for size in [*SIZES, (1920, 1080), (1279, 721)]:
        image = _picture(size)
        picture, affine = _train_side(image, frame, antialias)
        batch = preprocessor({'inputs': torch.from_numpy(picture.transpose(2, 0, 1)[None].copy())})
        expected = batch['inputs'][0].contiguous().numpy()
        found, found_affine = model.prepare(image)
        assert found.dtype == np.float32 and found.shape == expected.shape
        np.testing.assert_array_equal(found_affine, affine)
        difference = np.abs(found - expected)
        assert difference.max() <= grey_level and difference.mean() <= 0.1 * grey_level, size


def test_normalising_by_hand():
    image = np.array([[[0, 51, 255]]], np.uint8)  # blue 0, green 0.2, red 1
    mean, std = (0.5, 0.1, 0.25), (0.5, 0.1, 0.25)
    np.testing.assert_allclose(normalise_input(image, 'rgb', mean, std)[:, 0, 0], [1, 1, -1], atol=1e-6)
    np.testing.assert_allclose(normalise_input(image, 'bgr', mean, std)[:, 0, 0], [-1, 1, 3], atol=1e-6)


@pytest.mark.parametrize(
    'image', [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), 'face.jpg', None]
)
def test_what_is_no_picture_is_refused(folder, image):
    with GazeModel.load(folder, 'onnxruntime') as model, pytest.raises(ValueError, match=r'\(H, W, 3\) uint8 BGR'):
        model.prepare(image)


# ONNX Runtime


@pytest.mark.parametrize('batch', [1, 3, None])
def test_answers_are_those_of_torch(nano, images, tmp_path, batch):
    cfg, net = nano
    folder = model_folder(tmp_path, cfg, net, batch=batch)
    expected, outputs = _by_torch(net, InputFrame(**cfg.input_frame), images)
    with GazeModel.load(folder, threads=1) as model:
        assert (model.backend, model.name, model.input_size) == ('onnxruntime', 'nano_synth_160', (160, 96))
        assert model.providers == ['CPUExecutionProvider']
        _assert_same(model.predict(images), expected)
        raw = model.run(np.stack([model.prepare(image)[0] for image in images]))
        assert model.predict([]) == []
    assert list(raw) == ['heatmap', 'offset', 'face_heatmap']
    for name, value in outputs.items():
        np.testing.assert_allclose(raw[name], value, rtol=0, atol=1e-4, err_msg=name)
    # The answers differ from picture to picture, so that a mixed-up batch would show.
    points = np.array([sample.pred_plane_mm for sample in expected])
    assert np.linalg.norm(points[:, None] - points, axis=-1)[~np.eye(len(points), dtype=bool)].min() > 0.5


def test_threads_share_one_model(nano, folder, images):
    cfg, net = nano
    expected, _ = _by_torch(net, InputFrame(**cfg.input_frame), images)
    with GazeModel.load(folder, 'onnxruntime', threads=1) as model:
        _in_threads(lambda: _assert_same(model.predict(images), expected))


def _in_threads(work, count=4):
    errors = []

    def run():
        try:
            for _ in range(3):
                work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(backend='tensorrt'), 'backend must be one of auto, onnxruntime, acl'),
        (dict(providers=['CPUExecutionProvidr']), "did you mean 'CPUExecutionProvider'"),
        (dict(threads=0), 'threads must be at least 1'),
        (dict(backend='acl'), 'pyACL cannot be imported.*set_env.sh'),
    ],
)
def test_a_backend_that_is_not_there(folder, options, message):
    with pytest.raises(UserError, match=message):
        GazeModel.load(folder, **options)


def test_a_wrong_shape_is_refused(folder):
    with GazeModel.load(folder, 'onnxruntime') as model:
        for shape in [(1, 3, 160, 96), (0, 3, 96, 160), (3, 96, 160)]:
            with pytest.raises(ValueError, match=r'inputs must be \(B, 3, 96, 160\)'):
                model.run(np.zeros(shape, np.float32))


def test_an_ascend_graph_is_not_for_onnxruntime(folder, tmp_path):
    file = ModelFile.load(folder)
    (tmp_path / 'model.onnx').write_bytes((folder / 'model.onnx').read_bytes())
    vars(file)['dcn'] = 'ascend'
    file.save(tmp_path)
    with pytest.raises(UserError, match=r'dcn ascend.*--dcn native'):
        GazeModel.load(tmp_path, 'onnxruntime')


# pyACL

LOADED = [
    'init', 'rt.set_device', 'rt.create_context', 'rt.get_run_mode', 'mdl.load_from_file', 'mdl.create_desc',
    'mdl.get_desc', 'mdl.get_num_inputs', 'mdl.get_input_data_type', 'mdl.get_input_size_by_index', 'rt.malloc',
    'mdl.create_dataset', 'create_data_buffer', 'mdl.add_dataset_buffer', 'mdl.get_num_outputs',
    *['mdl.get_output_size_by_index'] * 3, *['rt.malloc'] * 3, 'mdl.create_dataset',
    *['create_data_buffer', 'mdl.add_dataset_buffer'] * 3, *['mdl.get_output_dims'] * 3,
    *['rt.malloc_host', 'mdl.get_output_data_type'] * 3,
]  # fmt: skip
RUN = [
    'rt.set_context', 'util.bytes_to_ptr', 'rt.memcpy', 'mdl.execute', *['rt.memcpy', 'util.ptr_to_bytes'] * 3,
]  # fmt: skip
CLOSED = [
    'rt.set_context', *['rt.free_host'] * 3, *['destroy_data_buffer'] * 3, 'mdl.destroy_dataset', *['rt.free'] * 3,
    'destroy_data_buffer', 'mdl.destroy_dataset', 'rt.free', 'mdl.destroy_desc', 'mdl.unload', 'rt.destroy_context',
    'rt.reset_device', 'finalize',
]  # fmt: skip


def test_the_sequence_of_calls(folder, monkeypatch):
    acl = _use(monkeypatch)
    model = GazeModel.load(folder)
    assert (model.backend, model.providers) == ('acl', ['Ascend device 0 (Ascend310)'])
    assert acl.calls == LOADED
    acl.calls.clear()
    inputs = np.stack([model.prepare(_picture((160, 96)))[0]] * 2)
    model.run(inputs)
    assert acl.calls == RUN * 2
    acl.calls.clear()
    model.close()
    model.close()
    assert acl.calls == CLOSED
    assert acl.unreleased == []
    with pytest.raises(RuntimeError, match='closed'):
        model.run(inputs)


@pytest.mark.parametrize(
    ('options', 'atol'),
    [
        ({}, 1e-6),
        (dict(run_mode=fake_acl.DEVICE), 1e-6),
        (dict(old=True, slack=64), 1e-6),
        (dict(short_names=True), 1e-6),
        (dict(reverse=True), 1e-6),
        (dict(half=True, slack=32), 5e-3),
    ],
    ids=str,
)
def test_the_board_gives_what_onnxruntime_gives(folder, images, monkeypatch, options, atol):
    acl = _use(monkeypatch, **options)
    with GazeModel.load(folder, 'onnxruntime') as reference, GazeModel.load(folder) as model:
        inputs = np.stack([model.prepare(image)[0] for image in images])
        expected, found = reference.run(inputs), model.run(inputs)
    assert acl.unreleased == []
    for name, value in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], value, rtol=0, atol=0.05, err_msg=name)


def test_aipp_takes_pixels_in_the_channel_order_of_the_model(nano, aipp_folder, images, monkeypatch):
    acl = _use(monkeypatch)
    cfg, net = nano
    expected, _ = _by_torch(net, InputFrame(**cfg.input_frame), images)
    with GazeModel.load(aipp_folder) as model:
        pixels, _ = model.prepare(images[0])
        assert pixels.shape == (96, 160, 3) and pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, images[0][..., ::-1])  # it has the input's size; nano takes RGB
        _assert_same(model.predict(images), expected)  # five pictures, two at a time
    assert acl.unreleased == []


def test_threads_share_one_board(nano, folder, images, monkeypatch):
    # The stand-in refuses a thread without a context, and two threads in one execution.
    acl = _use(monkeypatch)
    cfg, net = nano
    expected, _ = _by_torch(net, InputFrame(**cfg.input_frame), images)
    with GazeModel.load(folder) as model:
        _in_threads(lambda: _assert_same(model.predict(images), expected))
    assert acl.unreleased == []


def test_two_models_share_one_device(folder, aipp_folder, monkeypatch):
    acl = _use(monkeypatch)
    first, second = GazeModel.load(folder), GazeModel.load(aipp_folder)
    first.close()
    second.predict([_picture((160, 96))])
    assert 'finalize' not in acl.calls and 'rt.reset_device' not in acl.calls
    second.close()
    assert (acl.calls.count('init'), acl.calls.count('finalize'), acl.unreleased) == (1, 1, [])


def test_somebody_else_initialised_acl(folder, monkeypatch):
    acl = _use(monkeypatch)
    acl.init()
    GazeModel.load(folder).close()
    assert acl.unreleased == ['acl']  # it is theirs to finalise


@pytest.mark.parametrize(
    'step',
    ['init', 'rt.set_device', 'rt.create_context', 'rt.get_run_mode', 'mdl.load_from_file', 'mdl.get_desc',
     'rt.malloc', 'mdl.add_dataset_buffer', 'mdl.get_output_dims', 'rt.malloc_host'],
)  # fmt: skip
def test_a_loading_that_fails_leaves_nothing(folder, monkeypatch, step):
    acl = _use(monkeypatch, fail={step: 100012})
    with pytest.raises(UserError, match=rf'acl\.{step}.* failed with 100012: the .om was made by a newer CANN'):
        GazeModel.load(folder)
    assert acl.unreleased == []


def test_a_run_that_fails_says_why_and_can_be_closed(folder, monkeypatch):
    acl = _use(monkeypatch, fail={'mdl.execute': 507015})
    with (
        GazeModel.load(folder) as model,
        pytest.raises(UserError, match=r'acl.mdl.execute failed with 507015: an AI Core'),
    ):
        model.predict([_picture((160, 96))])
    assert acl.unreleased == []


def test_a_release_that_fails_does_not_keep_the_others(folder, monkeypatch):
    acl = _use(monkeypatch, fail={'mdl.destroy_dataset': 100000})
    model = GazeModel.load(folder)
    with pytest.raises(UserError, match=r'acl mdl.destroy_dataset failed with 100000'):
        model.close()
    assert acl.unreleased == ['datasets']


def _om(folder, tmp_path, **changes):
    """The folder with other facts about model.om."""
    file = ModelFile.load(folder)
    for name in ('model.om', 'model.onnx'):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    file.files['model.om'].update(changes)
    file.save(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ('options', 'changes', 'message'),
    [
        (dict(gears=True), {}, 'has 2 inputs, not one: convert it with a fixed batch'),
        ({}, dict(input_dtype='uint8', input_layout='NCHW'), 'uint8 NCHW is not supported'),
        ({}, dict(input_dtype='float32', input_layout='NHWC'), 'float32 NHWC is not supported'),
    ],
)
def test_an_om_of_another_kind_is_refused(folder, tmp_path, monkeypatch, options, changes, message):
    acl = _use(monkeypatch, **options)
    with pytest.raises(UserError, match=message):
        GazeModel.load(_om(folder, tmp_path, **changes))
    assert acl.unreleased == []


def test_an_om_of_another_model_is_refused(nano, folder, tmp_path, monkeypatch):
    acl = _use(monkeypatch)
    file = ModelFile.load(folder)
    for name in ('model.om', 'model.onnx'):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    outputs = (OutputSpec('heatmap', (1, 1, 24, 40)), OutputSpec('offset', (1, 2, 24, 40)))
    vars(file)['outputs'] = outputs
    file.save(tmp_path)
    with pytest.raises(UserError, match=r'has outputs .* model.json says'):
        GazeModel.load(tmp_path)
    frame = InputFrame((192, 96), 0)
    vars(file)['input'] = InputSpec(frame.input_size, frame, 'rgb', **IMAGENET)
    file.save(tmp_path)
    with pytest.raises(UserError, match='are no float32 pictures of 192 x 96 px'):
        GazeModel.load(tmp_path)
    assert acl.unreleased == []


def test_a_module_that_is_not_pyacl(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, 'acl', type(sys)('acl'))
    with pytest.raises(UserError, match='is not pyACL'):
        GazeModel.load(folder, 'acl')


# model.json


def test_the_file_round_trips(folder, tmp_path):
    file = ModelFile.load(folder)
    patch = Patch('left_eye', Normaliser(960.0, 300.0, (160, 96), 'sr'))
    changed = {'patch': patch, 'gaze_frame': 'normalised_sr', 'precision': 'int8', 'source': {'config': 'nano.py'}}
    vars(file).update(changed)
    file.save(tmp_path)
    again = ModelFile.load(tmp_path)
    assert again == file and again.patch == patch and again.folder == tmp_path
    assert isinstance(again.input.frame, InputFrame) and again.virtual_plane == VirtualPlane((640, 720), 1.0)
    assert again.hash == json.loads((tmp_path / 'model.json').read_text())['sha256'] == file.hash
    assert again.hash != ModelFile.load(folder).hash
    # Written twice, it is the same to the byte.
    first = (tmp_path / 'model.json').read_bytes()
    again.save(tmp_path)
    assert (tmp_path / 'model.json').read_bytes() == first


def test_gaze_frames_are_those_of_an_index():
    assert model_file.GAZE_FRAMES == GAZE_FRAMES


@pytest.mark.parametrize(
    ('keys', 'value', 'message'),
    [
        (('name',), '', r'\.name must be a text'),
        (('task',), 'pose', r'\.task must be one of plane, gaze, landmarks, not .pose.'),
        (('input', 'size'), [160, 0], r'\.input\.size must be a list of 2 whole numbers of at least 1'),
        (('input', 'size'), [192, 96], r'\.input\.size must be \[160, 96\], which is what frame gives'),
        (('input', 'mean'), [0.5, 0.5], r'\.input\.mean must be a list of 3 numbers'),
        (('input', 'std'), [0.5, 0, 0.5], r'\.input\.std must be a list of 3 numbers of at least 1e-06'),
        (('input', 'batch'), 0, r'\.input\.batch must be a whole number of at least 1 or null'),
        (('input', 'channel_order'), 'gbr', r'\.input\.channel_order must be one of rgb, bgr'),
        (('input', 'antialias'), 1, r'\.input\.antialias must be true or false'),
        (('input', 'frame', 'pad'), 30, r'\.input\.frame\.pad must be 0 or 2\^n - 1'),
        (('input', 'frame'), None, r'\.input\.frame must be an object'),
        (('outputs',), [], r'\.outputs must be a list with at least one'),
        (('outputs', 0, 'shape'), [1, 'x'], r'\.outputs\[0\]\.shape must be a list of whole numbers'),
        (('codecs',), {}, r'\.codecs is empty'),
        (('codecs', 'gaze'), {'ppm': 1}, r'\.codecs\.gaze\.type is missing'),
        (('virtual_plane', 'ppm'), 0, r'\.virtual_plane\.ppm must be a positive number'),
        (('opset',), '11', r'\.opset must be a whole number'),
        (('precision',), 'fp8', r'\.precision must be one of fp32, fp16, int8'),
        (('files', '../model.onnx'), {}, r"'\.\./model\.onnx' is no plain file name"),
        (('files', 'model.onnx', 'sha256'), 'abc', r'\.sha256 must be 64 hexadecimal digits'),
        (('inputs',), 1, r"\.inputs is not known; did you mean 'input'"),
    ],
)
def test_a_wrong_field_is_named(folder, tmp_path, keys, value, message):
    content = json.loads((folder / 'model.json').read_text())
    del content['sha256']
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    _write(content, tmp_path)
    with pytest.raises(UserError, match=f'model.json.*{message}'):
        ModelFile.load(tmp_path)


def _write(content, folder):
    """A model.json with a right sha256, whatever is in it."""
    folder.joinpath('model.json').write_text(json.dumps({**content, 'sha256': model_file._digest(content)}))


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (None, 'cannot read .*tools/deploy_atlas.py'),
        ('{', 'is not JSON'),
        ('[]', "format must be 'evg-model'"),
        ('{"format": "evg-model", "version": 2}', 'version is 2, this evg reads 1'),
        ('{"format": "evg-model", "version": 1, "opset": NaN}', 'NaN is no number of JSON'),
        ('[' * 100_000, 'is not JSON'),
    ],
)
def test_what_is_no_model_file(tmp_path, text, message):
    if text is not None:
        (tmp_path / 'model.json').write_text(text)
    with pytest.raises(UserError, match=message):
        ModelFile.load(tmp_path)


def test_a_changed_folder_is_refused(folder, tmp_path):
    for name in ('model.json', 'model.onnx'):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert GazeModel.load(tmp_path).file.name == 'nano_synth_160'  # a copy of what is needed runs
    text = (tmp_path / 'model.json').read_text()
    (tmp_path / 'model.json').write_text(text.replace('"ppm": 1.0', '"ppm": 1.1'))
    with pytest.raises(UserError, match=r'model\.json was changed after it was written'):
        GazeModel.load(tmp_path)
    (tmp_path / 'model.json').write_text(text)
    network = bytearray((folder / 'model.onnx').read_bytes())
    network[len(network) // 2] ^= 1
    (tmp_path / 'model.onnx').write_bytes(network)
    with pytest.raises(UserError, match=r'model\.onnx is not the file that model\.json lists'):
        GazeModel.load(tmp_path)
    (tmp_path / 'model.onnx').unlink()
    with pytest.raises(UserError, match=r'cannot read .*model.onnx.*copy the whole folder'):
        GazeModel.load(tmp_path)


# Documentation


def test_the_examples_of_the_documentation_run(folder, tmp_path, monkeypatch, capsys):
    acl = _use(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'model').symlink_to(folder)
    cv2.imwrite('frame.jpg', _picture((160, 96)))
    blocks = re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / 'runtime.md').read_text(encoding='utf-8'), re.S)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, {})
    assert 'Ascend device 0' in capsys.readouterr().out
    assert acl.unreleased == []


# Without torch


@pytest.mark.parametrize('module', ['evg.deploy', 'evg.deploy.model_file', 'evg.deploy.runtime'])
def test_nothing_heavy_is_imported(module):
    absent = ('torch', 'mmengine', 'mmcv', 'onnx', 'onnxruntime', 'h5py', 'pyarrow', 'acl')
    code = f'import sys, {module}; print([name for name in {absent!r} if name in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ('[]', '')


@pytest.mark.slow
def test_a_machine_without_torch_gives_the_same_numbers(nano, folder, images, tmp_path):
    source = tmp_path / 'source'
    for name in ('setup.py', 'pyproject.toml', 'README.md', *(ROOT / 'evg').rglob('*.py')):
        path = ROOT / name
        (source / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        (source / path.relative_to(ROOT)).write_bytes(path.read_bytes())
    cfg, net = nano
    expected, _ = _by_torch(net, InputFrame(**cfg.input_frame), images)
    np.savez(tmp_path / 'images.npz', *images)
    code = f"""
import sys
from importlib.util import find_spec
import numpy as np
from evg.deploy.runtime import GazeModel
images = np.load({str(tmp_path / 'images.npz')!r})
with GazeModel.load({str(folder)!r}, threads=1) as model:
    answers = model.predict([images[name] for name in images.files])
print([name for name in ('torch', 'mmengine', 'mmcv', 'onnx', 'pyarrow') if find_spec(name) or name in sys.modules])
print(np.__version__[0])
np.savez({str(tmp_path / 'answers.npz')!r}, **{{key: [a[key] for a in answers] for key in answers[0]}})
"""
    subprocess.run([sys.executable, '-m', 'venv', tmp_path / 'venv'], check=True)
    python = tmp_path / 'venv' / 'bin' / 'python'
    # Boards have numpy 1.
    for packages, numpy_version in (([f'{source}[runtime]'], '2'), (['--no-deps', 'numpy<2'], '1')):
        install = [python, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', *packages]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        done = subprocess.run([python, '-I', '-c', code], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.split() == ['[]', numpy_version]
        with np.load(tmp_path / 'answers.npz') as answers:
            for name in answers.files:
                values = np.array([getattr(sample, name) for sample in expected])
                np.testing.assert_allclose(answers[name], values, rtol=0, atol=0.05, err_msg=name)
