"""SynthesEyes: files written as Python 2 wrote them, opened without executing anything."""

import os
import pickle
import struct
from argparse import ArgumentParser
from typing import ClassVar

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose

from evg.datasets.converter import BadUnitError, converter_class
from evg.datasets.index import read_index
from evg.datasets.prepare import prepare
from evg.datasets.syntheseyes import IRIS_CHECK, read_plain_pickle
from evg.errors import UserError
from evg.geometry import vector_to_pitchyaw


class Python2Pickler(pickle._Pickler):
    """Protocol 2 with byte strings as Python 2 wrote them, and the module names of its numpy."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_bytes(self, obj):
        self.write(b'T' + struct.pack('<i', len(obj)) + obj)

    def save_str(self, obj):
        self.save_bytes(obj.encode('latin1'))

    dispatch[bytes], dispatch[str] = save_bytes, save_str


def dump(path, value):
    with open(path, 'wb') as file:
        Python2Pickler(file, 2).dump(value)
    path.write_bytes(path.read_bytes().replace(b'numpy._core', b'numpy.core'))


RIM = 2 * np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)


def eye(folder, name, right, up):
    """An eye that looks `right` and `up` (tangents, as the person sees it) past the camera.

    The camera's axes are OpenGL's: x to the picture's right, which is the person's left, y up, z towards the viewer.
    The iris moves 20 px for a tangent of 1 from the middle of the lids, (60, 40) px.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / f'{name}.png'), np.full((80, 120, 3), 128, np.uint8))
    iris = np.array([60 - 20 * right, 40 - 20 * up])
    around = np.array([[-5, -3], [5, -3], [5, 3], [-5, 3.0]])
    landmarks = {
        'ldmks_lids_2d': np.array([60, 40]) + 3 * around,
        'ldmks_iris_2d': iris + around,
        'ldmks_pupil_2d': iris + RIM,
    }
    values = {'look_vec': np.array([-right, up, 1.0]), 'head_pose': np.eye(3), 'ldmks': landmarks}
    dump(folder / f'{name}.pkl', values)


LOOKS = [(0.3, 0.2), (-0.3, 0.1), (0.1, -0.3), (-0.2, -0.1), (0.2, 0.0), (0.0, 0.3), (-0.1, -0.2), (0.25, 0.15)]


@pytest.fixture
def source(tmp_path):
    for number, (right, up) in enumerate(LOOKS):
        eye(tmp_path / 'src/f01', f'f01_{number:02d}_0.1_0.2', right, up)
    eye(tmp_path / 'src/m05', 'm05_00_0_0', 0.3, 0.2)
    return tmp_path / 'src'


def convert(source, out, *words):
    parser = ArgumentParser()
    cls = converter_class('syntheseyes')
    cls.add_arguments(parser)
    return prepare(cls.from_args(parser.parse_args(['--src', str(source), *words])), out, jobs=1)


def test_the_pupil_of_a_picture_of_one_eye_stands_twice(source, tmp_path):
    path = source / 'f01/f01_02_0.1_0.2.pkl'
    values = read_plain_pickle(path)
    dump(path, values | {'ldmks': values['ldmks'] | {'ldmks_pupil_2d': RIM[:4]}})
    summary = convert(source, tmp_path / 'out', '--axes', 'opengl')
    pupils = read_index(tmp_path / 'out').columns['pupil_landmarks_px'][:3].reshape(3, 2, 8, 2)
    # The first look, tangents 0.3 and 0.2: 6 px to the left of the middle, 4 px up.
    assert_allclose(pupils[0], [RIM + np.array([54, 36])] * 2, atol=1e-5)
    # Four points are no rim of eight; the picture still serves for its gaze.
    assert np.isnan(pupils[2]).all()
    assert summary['notes']['pictures without 8 points of the pupil'] == 1


def test_a_look_to_the_persons_right_and_up(source, tmp_path):
    summary = convert(source, tmp_path / 'out', '--axes', 'opengl')
    index = read_index(tmp_path / 'out')
    assert (index.gaze_frame, sorted(set(index.columns['subject'].tolist()))) == ('camera', ['f01', 'm05'])
    assert index.columns['sample_id'][0] == 'f01/f01_00_0.1_0.2'
    # OpenCV: the person's right is the picture's left, -x; up is -y; towards the camera is -z.
    assert_allclose(index.columns['gaze'][0], np.array([-0.3, -0.2, -1]) / np.sqrt(1.13), atol=1e-12)
    pitch, yaw = vector_to_pitchyaw(index.columns['gaze'][0])
    assert pitch == pytest.approx(np.arctan(0.2 / np.hypot(0.3, 1)))
    assert yaw == pytest.approx(np.arctan(0.3))
    assert set(index.columns['split'].tolist()) == {'train'}
    assert (tmp_path / 'out' / index.columns['image'][0]).is_file()
    # Straight lines by construction; m05 has one picture, too few for the test.
    assert summary['checks'][IRIS_CHECK]['n'] == 2
    assert summary['checks'][IRIS_CHECK]['median'] == pytest.approx(1, abs=1e-4)
    assert summary['notes'] == {'recordings too small for the sign self-test': 1}


def test_the_wrong_axes_are_noticed_and_none_are_assumed(source, tmp_path):
    with pytest.raises(UserError, match='--axes opencv cannot be: most eyes would look away'):
        convert(source, tmp_path / 'out', '--axes', 'opencv')
    with pytest.raises(SystemExit):
        convert(source, tmp_path / 'out')


def test_an_iris_that_moves_against_the_gaze_is_noticed(tmp_path):
    for number, (right, up) in enumerate(LOOKS):
        eye(tmp_path / 'src/f01', f'f01_{number:02d}', right, up)
        path = tmp_path / f'src/f01/f01_{number:02d}.pkl'
        values = read_plain_pickle(path)
        dump(path, values | {'look_vec': values['look_vec'] * (-1, 1, 1)})
    with pytest.raises(UserError, match='moves against the gaze along x'):
        convert(tmp_path / 'src', tmp_path / 'out', '--axes', 'opengl')


def test_bad_files_are_counted_or_refused(source, tmp_path):
    (source / 'f01/f01_00_0.1_0.2.pkl').write_bytes(b'\x80\x02}q\x00')
    (source / 'f01/f01_01_0.1_0.2.png').unlink()
    dump(source / 'f01/f01_02_0.1_0.2.pkl', {'look_vec': np.zeros(3)})
    summary = convert(source, tmp_path / 'out', '--axes', 'opengl')
    assert summary['rows'] == 6
    assert summary['dropped'] == {
        'pickles that are damaged': 1,
        'frames whose picture is missing': 1,
        'pickles without look_vec and ldmks': 1,
    }


class Evil:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize(
    ('value', 'name'),
    [
        (lambda path: Evil(os.mkdir, str(path)), r'(posix|nt)\.mkdir'),
        (lambda path: Evil(eval, f'__import__("os").mkdir({str(path)!r})'), 'eval'),
        (lambda path: {'look_vec': Evil(getattr, 'text', 'upper')}, 'getattr'),
        (lambda path: np.load, 'numpy'),
    ],
)
def test_no_other_class_is_built_and_it_is_named(tmp_path, value, name):
    for protocol in (0, 2, 5):
        (tmp_path / 'x.pkl').write_bytes(pickle.dumps(value(tmp_path / 'evil'), protocol))
        with pytest.raises(BadUnitError, match=f'refused: it asks for .*{name}'):
            read_plain_pickle(tmp_path / 'x.pkl')
    assert not (tmp_path / 'evil').exists()


def test_a_forbidden_pickle_costs_its_unit_and_is_named(source, tmp_path):
    (source / 'm05/m05_00_0_0.pkl').write_bytes(pickle.dumps(Evil(os.mkdir, str(tmp_path / 'evil')), 2))
    summary = convert(source, tmp_path / 'out', '--axes', 'opengl')
    assert 'mkdir' in summary['failed']['m05']
    assert not (tmp_path / 'evil').exists()


def test_pickles_of_python_3_are_read_too(tmp_path):
    value = {'a': np.arange(3.0), 'b': [1, 'x', None], 'c': np.float64(2.5)}
    for protocol in (2, 4):
        (tmp_path / 'x.pkl').write_bytes(pickle.dumps(value, protocol))
        read = read_plain_pickle(tmp_path / 'x.pkl')
        assert read['a'].tolist() == [0, 1, 2]
        assert (read['b'], read['c']) == ([1, 'x', None], 2.5)
