"""The parity report: differences that are known beforehand, the tool as a user runs it, and the .om path."""

import json
import math
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from conftest import ROOT, run_tool
from model_folders import NANO, model_folder, network

from evg.deploy import parity
from evg.deploy.model_file import ModelFile, sha256
from evg.deploy.parity_pictures import pictures_of
from evg.deploy.parity_table import render
from evg.deploy.runtime import GazeModel
from evg.errors import UserError
from evg.geometry import Rig
from evg.structures import GazeDataSample


class Shifted(GazeModel):
    """A folder whose network finds the point of gaze half a cell too far to the right."""

    def run(self, inputs):
        raw = super().run(inputs)
        raw['offset'] = raw['offset'] + np.array([0.5, 0], np.float32)[:, None, None]
        return raw


@pytest.fixture(scope='module')
def nano():
    return network()


@pytest.fixture(scope='module')
def checkpoint(nano, tmp_path_factory):
    path = tmp_path_factory.mktemp('checkpoint') / 'model_1.pth'
    torch.save({'state_dict': nano[1].state_dict(), 'meta': {}}, path)
    return path


@pytest.fixture(scope='module')
def folder(nano, checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp('model') / 'nano'
    return model_folder(out, *nano, om='uint8', checkpoint='model_1.pth', checkpoint_sha256=sha256(checkpoint))


def test_a_known_difference_is_reported(nano, folder, synth_close):
    # 40 x 24 cells and a plane of 640 x 720 mm, fit 'contain': 30 mm a cell, so half a cell is 15 mm.
    cfg, model = nano
    with Shifted.load(folder, 'onnxruntime', threads=1) as runtime:
        report = parity.compare(model, runtime, pictures_of(cfg, 5, str(synth_close)), 'cpu', parity.TOLERANCES['fp32'])
    assert report['outputs']['heatmap']['max'] < 1e-4
    assert report['outputs']['offset']['max'] == pytest.approx(0.5, abs=1e-4)
    assert report['outputs']['offset']['mean'] == pytest.approx(0.25, abs=1e-4)
    row = report['answers']['point of gaze, mm']
    assert [row[key] for key in ('mean', 'p95', 'max')] == pytest.approx([15.0] * 3, abs=0.01)
    assert report['answers']['face centre, px']['max'] < 0.05
    assert [text.split(':')[0].split(' differs')[0] for text in report['failures']] == [
        'offset',
        'point of gaze, mm',
        'point of gaze, deg',
    ]
    assert report['pictures'].startswith('5 of ')
    by_torch, by_runtime = (report['figures'][name] for name in ('torch', 'runtime'))
    assert by_torch['pog/n'] == by_runtime['pog/n'] == 5
    assert 0 < abs(by_torch['pog/mean_mm'] - by_runtime['pog/mean_mm']) <= 15.01
    text = render(report)
    assert not report['blind'] and 'hardly depend' not in text
    assert 'beyond the tolerance' in text and f'{by_runtime["pog/mean_mm"]:.3f}' in text


def test_outputs_that_do_not_depend_on_the_picture_prove_nothing(synth_close, tmp_path):
    cfg, model = network()
    with torch.no_grad():
        for head in model.heads.values():
            head.branch[2].weight.zero_()  # what is left is the bias
    with GazeModel.load(model_folder(tmp_path / 'flat', cfg, model), 'onnxruntime', threads=1) as runtime:
        pictures = pictures_of(cfg, 3, str(synth_close))
        report = parity.compare(model, runtime, pictures, 'cpu', parity.TOLERANCES['fp32'])
    assert report['failures'] == []
    assert report['blind']
    assert 'the outputs hardly depend on the picture (random weights?)' in render(report)


def _sample(**fields):
    return GazeDataSample('a', 'a.png', 'p', **{name: np.array(value) for name, value in fields.items()})


def test_differences_by_hand():
    pose = np.eye(4)
    rig = Rig((100, 100), (100, 100), (100, 100), screen_to_camera=pose)
    plane = {'rig': rig, 'plane_rule': 'ray', 'gt_origin_mm': np.array([0.0, 0, 100])}
    a, b = _sample(pred_plane_mm=[0, 0]), _sample(pred_plane_mm=[100, 0])
    for sample in (a, b):
        vars(sample).update(plane)
    found = parity._differences([a], [b])
    assert found['point of gaze, mm'] == pytest.approx([100])
    assert found['point of gaze, deg'] == pytest.approx([45])
    vars(b)['rig'] = vars(a)['rig'] = None
    assert list(parity._differences([a], [b])) == ['point of gaze, mm']
    a, b = _sample(pred_gaze=[0, 0, -1]), _sample(pred_gaze=[0, -1, 0])
    assert parity._differences([a], [b])['gaze vector, deg'] == pytest.approx([90])
    a, b = _sample(pred_landmarks_px=[[0, 0], [1, 1]]), _sample(pred_landmarks_px=[[3, 4], [1, 1]])
    assert parity._differences([a], [b])['landmarks, px'] == pytest.approx([2.5])


def test_what_is_no_number_never_passes():
    row = parity._summary(np.array([0.0, math.nan, 0.0]))
    assert row['max'] == row['mean'] == math.inf
    report = {
        'outputs': {'heatmap': {'max': math.nan, 'largest_value': 1.0}},
        'answers': {'point of gaze, mm': row},
        'tolerance': vars(parity.TOLERANCES['fp32']),
    }
    assert len(parity.failures(report)) == 2


def test_the_precision_is_that_of_what_runs(nano, tmp_path):
    folder = model_folder(tmp_path, *nano)
    file = ModelFile.load(folder)

    def precision(stored, backend):
        return parity.precision_of(GazeModel(replace(file, precision=stored), None, backend))

    # A folder for Ascend: ATC rounds, model.onnx does not.
    assert precision('fp16', 'onnxruntime') == precision('fp32', 'onnxruntime') == 'fp32'
    assert precision('fp16', 'acl') == precision('fp32', 'acl') == 'fp16'
    assert precision('int8', 'onnxruntime') == 'int8'
    proto = onnx.load(folder / 'model.onnx')
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float16), 'half'))
    onnx.save(proto, folder / 'model.onnx')
    file = file.with_file(folder / 'model.onnx')
    assert precision('fp16', 'onnxruntime') == 'fp16'


def test_fp32_is_judged_by_the_maximum_half_precision_by_the_mean():
    # One picture of 100 jumped to another cell.
    rows = {
        'outputs': {'heatmap': {'max': 0.01, 'largest_value': 9.0}, 'offset': {'max': 5e-4, 'largest_value': 9.0}},
        'answers': {'point of gaze, mm': {'mean': 0.4, 'max': 40.0}},
    }
    failed = parity.failures({**rows, 'tolerance': vars(parity.TOLERANCES['fp32'])})
    assert failed == [
        'heatmap differs by 0.01, 0.0009 is allowed',
        'point of gaze, mm: the max difference is 40, 0.05 is allowed',
    ]
    assert parity.failures({**rows, 'tolerance': vars(parity.TOLERANCES['fp16'])}) == []


def test_the_tool_on_the_test_set(folder, checkpoint, synth_close, tmp_path):
    args = (folder, ROOT / NANO, checkpoint, '--data', synth_close, '--threads', 1, '--device', 'cpu', '--images', 6)
    done = run_tool('verify_deploy', *args, '--json', tmp_path / 'report.json')
    assert 'within the tolerance' in done.stdout and 'pog/mean_mm' in done.stdout
    report = json.loads((tmp_path / 'report.json').read_text())
    assert (report['model'], report['backend'], report['failures']) == ('nano_synth_160', 'onnxruntime', [])
    assert set(report['milliseconds']) == {'torch', 'prepare', 'network', 'decode'}
    assert report['bytes']['model.onnx'] == (folder / 'model.onnx').stat().st_size
    assert set(report['figures']['torch']) == set(report['figures']['runtime']) > {'pog/mean_mm', 'angle/mean_deg'}


def test_the_tool_on_a_board(folder, checkpoint, synth_close, tmp_path):
    # pyACL is a module called acl; this one is the stand-in, with an .om that normalises by itself.
    lines = ['import sys', f'sys.path.append({str(ROOT / "tests")!r})', 'from fake_acl import FakeAcl']
    lines += ['import atexit', 'acl = sys.modules[__name__] = FakeAcl(half=True)']
    lines += ['atexit.register(lambda: print("unreleased:", acl.unreleased))']
    (tmp_path / 'acl.py').write_text('\n'.join(lines))
    args = (folder, ROOT / NANO, checkpoint, '--data', synth_close, '--images', 3, '--threads', 1, '--atol-mm', 1e-6)
    done = run_tool(
        'verify_deploy', *args, '--json', tmp_path / 'report.json', env={'PYTHONPATH': str(tmp_path)}, code=1
    )
    assert 'acl (Ascend device 0 (Ascend310))' in done.stdout and 'unreleased: []' in done.stdout
    assert 'beyond the tolerance:\n  point of gaze, mm: the mean difference is' in done.stdout
    report = json.loads((tmp_path / 'report.json').read_text())
    assert report['backend'] == 'acl' and report['tolerance']['statistic'] == 'mean'
    assert report['outputs']['heatmap']['max'] > 1e-5  # half precision, so it was the .om that ran


def test_without_data_pictures_are_random(nano, folder):
    cfg, model = nano
    pictures = pictures_of(cfg, 4)
    assert pictures.about.startswith('4 random pictures: there is no data/synth_close/index.parquet')
    with GazeModel.load(folder, 'onnxruntime', threads=1) as runtime:
        report = parity.compare(model, runtime, pictures, 'cpu', parity.TOLERANCES['fp32'])
    assert report['failures'] == [] and report['figures'] == {'torch': {}, 'runtime': {}}
    assert set(report['answers']) == {'point of gaze, mm', 'face centre, px', 'score, 0..1'}
    assert 'random pictures' in render(report)


@pytest.mark.parametrize(
    ('path', 'answers'),
    [
        ('configs/regression/nano_synth_96.py', {'gaze vector, deg'}),
        ('configs/landmark/pupilnet_synth_48_nano.py', {'landmarks, px', 'gaze vector, deg', 'score, 0..1'}),
    ],
)
def test_networks_of_patches(path, answers, tmp_path):
    cfg, model = network(ROOT / path)
    with GazeModel.load(model_folder(tmp_path, cfg, model), threads=1) as runtime:
        report = parity.compare(model, runtime, pictures_of(cfg, 6), 'cpu', parity.TOLERANCES['fp32'])
    assert report['failures'] == [] and set(report['answers']) == answers


def test_mistakes_are_explained(nano, folder, checkpoint, tmp_path):
    with GazeModel.load(folder, 'onnxruntime') as runtime:
        parity.check_source(runtime.file, {'checkpoint': 'a.pth', 'checkpoint_sha256': sha256(checkpoint)})
        for other, message in (('b.pth', 'not from b.pth'), (None, 'not from random weights')):
            with pytest.raises(UserError, match=f'was exported from model_1.pth .*{message}'):
                parity.check_source(runtime.file, {'checkpoint': other, 'checkpoint_sha256': other and 'f' * 64})
    with pytest.raises(UserError, match='--device gpu'):
        parity.choose_device('gpu')
    with pytest.raises(UserError, match=r'index\.parquet'):
        pictures_of(nano[0], 4, str(tmp_path))
