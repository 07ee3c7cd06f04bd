"""UnityEyes: JSON files whose values are texts, y up."""

import json
import os
from argparse import ArgumentParser

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose

from evg.datasets.converter import converter_class
from evg.datasets.index import read_index
from evg.datasets.prepare import prepare
from evg.datasets.unityeyes import parse_tuple
from evg.errors import UserError
from evg.geometry import vector_to_pitchyaw

LOOKS = [(0.3, 0.2), (-0.3, 0.1), (0.1, -0.3), (-0.2, -0.1), (0.2, 0.0), (0.0, 0.3), (-0.1, -0.2), (0.25, 0.15)]


def eye(folder, number, right, up):
    """An eye that looks `right` and `up` (tangents, as the person sees it) past a camera with x to the picture's right.

    The picture is 640 x 480; points have y up. The iris moves 60 px for a tangent of 1 from the middle (320, 240).
    """
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / f'{number}.jpg'), np.full((480, 640, 3), 128, np.uint8))

    def around(x, y, count, radius):
        turn = np.arange(count) / count * 2 * np.pi
        return [f'({x + radius * np.cos(t):.4f}, {y + radius * np.sin(t):.4f}, 9.2)' for t in turn]

    values = {
        'interior_margin_2d': around(320, 240, 16, 60),
        'caruncle_2d': around(260, 240, 7, 10),
        'iris_2d': around(320 - 60 * right, 240 + 60 * up, 32, 25),
        # The person's right is the picture's left.
        'eye_details': {'look_vec': f'({-right}, {up}, -1.0, 0.0)', 'pupil_size': '0.02', 'iris_size': '0.9'},
        'head_pose': '(350.1, 170.2, 0.0)',
    }
    (folder / f'{number}.json').write_text(json.dumps(values))
    return values


@pytest.fixture
def source(tmp_path):
    for number, (right, up) in enumerate(LOOKS, start=1):
        eye(tmp_path / 'imgs', number, right, up)
    return tmp_path / 'imgs'


def convert(source, out, *words):
    parser = ArgumentParser()
    cls = converter_class('unityeyes')
    cls.add_arguments(parser)
    return prepare(cls.from_args(parser.parse_args(['--src', str(source), *words])), out, jobs=1)


def test_a_look_to_the_persons_right_and_up(source, tmp_path):
    summary = convert(source, tmp_path / 'out', '--x-axis', 'right')
    index = read_index(tmp_path / 'out')
    assert index.gaze_frame == 'camera'
    assert index.columns['frame'].tolist() == list(range(1, 9))
    assert_allclose(index.columns['gaze'][0], np.array([-0.3, -0.2, -1]) / np.sqrt(1.13), atol=1e-12)
    pitch, yaw = vector_to_pitchyaw(index.columns['gaze'][0])
    assert pitch == pytest.approx(np.arctan(0.2 / np.hypot(0.3, 1)))
    assert yaw == pytest.approx(np.arctan(0.3))
    assert (tmp_path / 'out' / index.columns['image'][0]).is_file()
    (check,) = summary['checks'].values()
    assert check['median'] == pytest.approx(1, abs=1e-4)


def test_the_wrong_side_is_noticed_and_none_is_assumed(source, tmp_path):
    with pytest.raises(UserError, match='--x-axis left cannot be: the iris moves against the gaze along x'):
        convert(source, tmp_path / 'out', '--x-axis', 'left')
    with pytest.raises(SystemExit):
        convert(source, tmp_path / 'out')


def test_damaged_files_are_counted(source, tmp_path):
    (source / '1.json').write_text('{"eye_details": ')
    (source / '2.jpg').write_bytes(b'no picture')
    values = json.loads((source / '3.json').read_text())
    values['eye_details']['look_vec'] = '__import__("os").mkdir("evil")'
    (source / '3.json').write_text(json.dumps(values))
    summary = convert(source, tmp_path / 'out', '--x-axis', 'right')
    assert summary['rows'] == 5
    assert summary['dropped'] == {'JSON files that are damaged': 2, 'frames whose picture is damaged': 1}
    assert not os.path.exists('evil')


@pytest.mark.parametrize('text', ['(1, 2', '[[1], [2]]', 'print(1)', '(1, nan)', '("a", "b")', None, '(1e999, 0)'])
def test_only_tuples_of_numbers_are_read(text):
    with pytest.raises(ValueError):
        parse_tuple(text)


def test_the_folder_above_is_explained(tmp_path, source):
    with pytest.raises(UserError, match=r'did you mean --src .*imgs'):
        convert(tmp_path, tmp_path / 'out', '--x-axis', 'right')
