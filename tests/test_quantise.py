"""INT8 for ONNX Runtime: what is quantised, from which pictures, and how near the answers stay."""

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from settled import load, pictures, settled

from evg.datasets.collate import collate_gaze
from evg.deploy.describe import describe
from evg.deploy.folder import Options, deploy
from evg.deploy.graph import constants_of
from evg.deploy.onnx_export import Exported, export_onnx
from evg.deploy.quantise import calibration_inputs, quantise
from evg.errors import UserError
from evg.registry import DATASETS

NANO = 'configs/ctdet_gazeface/nano_synth_160.py'
SIZE = (160, 96)


def _run(path, images):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {'input': images}), strict=True))


def _folder_of_pictures(folder, count=4):
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(count):
        coarse = rng.integers(0, 256, (6, 10, 3), np.uint8)
        cv2.imwrite(str(folder / f'{i}.png'), cv2.resize(coarse, (160, 96), interpolation=cv2.INTER_CUBIC))
    return folder


@pytest.mark.parametrize('overrides', [(), ('model.neck.refine=dcn',)])
@pytest.mark.parametrize('batch', [1, 2])
def test_int8_stays_near_the_network(overrides, batch, tmp_path):
    model = settled(load(NANO, overrides))
    opset = 19 if overrides else 13
    exported = export_onnx(model, tmp_path / 'm.onnx', SIZE, opset=opset, batch=batch)
    inputs = [picture[None] for picture in pictures(8, SIZE, seed=1).numpy()]
    assert quantise(tmp_path / 'm.onnx', tmp_path / 'q.onnx', inputs, batch) == 8
    assert (tmp_path / 'q.onnx').stat().st_size < 0.35 * (tmp_path / 'm.onnx').stat().st_size
    proto = onnx.load(tmp_path / 'q.onnx')
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [('', opset)]
    constants = constants_of(proto)
    # Weights have a scale for each output channel; the 1x1 convolutions that make the outputs are float.
    kinds = {}
    makers = {name: node for node in proto.graph.node for name in node.output}
    for node in proto.graph.node:
        if node.op_type == 'Conv':
            maker = makers.get(node.input[1])
            kinds[node.name] = 'float' if maker is None else maker.op_type
            if maker is not None:
                weight, scale = constants[maker.input[0]], constants[maker.input[1]]
                assert (weight.dtype, scale.shape) == (np.int8, (weight.shape[0],))
    assert sorted(name for name, kind in kinds.items() if kind == 'float') == [
        f'heads.{name}.branch.2/Conv' for name in ('face_center', 'heatmap', 'offset')
    ]
    images = np.concatenate(inputs[:batch])
    found, expected = _run(tmp_path / 'q.onnx', images), _run(tmp_path / 'm.onnx', images)
    for name, value in expected.items():
        error = (found[name] - value).std() / value.std()
        # 8 bits are steps of 1/255 of a range of some 6 sigma, added up over 20 layers.
        assert 1e-4 < error < 0.15, name
    assert tuple((o.name, tuple(d.dim_value for d in o.type.tensor_type.shape.dim)) for o in proto.graph.output) == (
        exported.outputs
    )


def test_pictures_of_the_training_split_are_those_of_the_test_pipeline(synth_close):
    cfg = load(NANO, [f'data_root={synth_close}'])
    model = settled(cfg)
    spec = describe(cfg, _graph(), 1, 'int8', {}).input
    found = list(calibration_inputs(cfg, spec, '3'))
    dataset = DATASETS.build({**cfg.train_dataloader.dataset, 'pipeline': cfg.test_pipeline})
    # Three of them, evenly spread.
    wanted = [dataset[position] for position in (0, round((len(dataset) - 1) / 2), len(dataset) - 1)]
    expected = model.data_preprocessor(collate_gaze(wanted))['inputs'].numpy()
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-5)


def _graph():
    """What `describe` needs to know of a graph."""
    return Exported(13, 'none', (('heatmap', (1, 1, 24, 40)),), 1)


def test_pictures_of_a_folder(tmp_path):
    cfg = load(NANO)
    spec = describe(cfg, _graph(), 1, 'int8', {}).input
    folder = _folder_of_pictures(tmp_path / 'pictures')
    (folder / 'notes.txt').write_text('no picture')
    found = list(calibration_inputs(cfg, spec, str(folder)))
    # They have the input's size, so only channels and constants change.
    image = cv2.imread(str(folder / '2.png'))[..., ::-1].astype(np.float64) / 255
    expected = ((image - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)).transpose(2, 0, 1)
    np.testing.assert_allclose(found[2][0], expected, atol=1e-5)
    assert len(found) == 4


def test_pictures_that_are_not_there_are_named(tmp_path):
    cfg = load(NANO, [f'data_root={tmp_path / "no_data"}'])
    spec = describe(cfg, _graph(), 1, 'int8', {}).input
    (tmp_path / 'empty').mkdir()
    for source, message in (
        ('0', 'must be at least 1'),
        (str(tmp_path / 'empty'), 'there are no pictures in'),
        (str(tmp_path / 'missing'), 'is neither a number nor a folder'),
        ('4', r'no data at .*; or give int8 a folder of pictures, --calib-images FOLDER'),
    ):
        with pytest.raises(UserError, match=message):
            next(calibration_inputs(cfg, spec, source))


def test_an_int8_folder(tmp_path):
    cfg = load(NANO)
    model = settled(cfg)
    said = []
    options = Options(
        target='onnxruntime', precision='int8', calibration=str(_folder_of_pictures(tmp_path / 'pictures'))
    )
    file = deploy(cfg, model, tmp_path / 'out', options, {}, said.append)
    assert said[0].startswith('opset 13 instead of 11')
    assert 'int8: ranges from 4 pictures' in said[2]
    assert (file.precision, file.opset) == ('int8', 13)
    types = {t.data_type for t in onnx.load(tmp_path / 'out' / 'model.onnx').graph.initializer}
    assert TensorProto.INT8 in types
    images = pictures(1, SIZE, seed=3).numpy()
    with torch.no_grad():
        expected = model(torch.from_numpy(images))
    found = _run(tmp_path / 'out' / 'model.onnx', images)
    assert found.keys() == expected.keys()
