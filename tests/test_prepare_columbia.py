"""Columbia Gaze: the label is the file's name."""

import math
from argparse import ArgumentParser

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose

from evg.datasets.converter import converter_class
from evg.datasets.index import read_index
from evg.datasets.prepare import prepare
from evg.errors import UserError
from evg.geometry import vector_to_pitchyaw


def portrait(source, name):
    folder = source / name[:4]
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / name), np.full((96, 144, 3), 128, np.uint8))


def convert(source, out, *words):
    parser = ArgumentParser()
    cls = converter_class('columbia')
    cls.add_arguments(parser)
    words = ['--src', str(source), '--size', '72', '48', *words]
    return prepare(cls.from_args(parser.parse_args(words)), out, jobs=1)


def test_all_105_names_of_a_person(tmp_path):
    names = [
        f'0001_2m_{p}P_{v}V_{h}H.jpg'
        for p in (-30, -15, 0, 15, 30)
        for v in (-10, 0, 10)
        for h in (-15, -10, -5, 0, 5, 10, 15)
    ]
    for name in names:
        portrait(tmp_path / 'src', name)
    summary = convert(tmp_path / 'src', tmp_path / 'out')
    index = read_index(tmp_path / 'out')
    assert (summary['rows'], summary['dropped'], index.gaze_frame) == (105, {}, 'camera')
    assert cv2.imread(str(tmp_path / 'out' / index.columns['image'][0])).shape == (48, 72, 3)
    assert set(index.columns['split'].tolist()) == {'test'}
    gaze = dict(zip(index.columns['sample_id'].tolist(), index.columns['gaze'], strict=True))
    # 10 deg up and 15 deg to the person's right, wherever the camera stands: -H.
    for p in (-30, 0, 15):
        pitch, yaw = np.degrees(vector_to_pitchyaw(gaze[f'0001/0001_2m_{p}P_10V_-15H']))
        assert (pitch, yaw) == (pytest.approx(10), pytest.approx(15))
    v, h = math.radians(10), math.radians(15)
    right_and_up = [-math.cos(v) * math.sin(h), -math.sin(v), -math.cos(v) * math.cos(h)]
    assert_allclose(gaze['0001/0001_2m_0P_10V_-15H'], right_and_up, atol=1e-12)
    # The published vector (tan H, -tan V, -1), exact where one of the angles is 0.
    assert_allclose(gaze['0001/0001_2m_0P_0V_10H'] * [1, 1, -1] / gaze['0001/0001_2m_0P_0V_10H'][2],
                    [-math.tan(math.radians(10)), 0, -1], atol=1e-12)  # fmt: skip
    heads = dict(zip(index.columns['sample_id'].tolist(), index.columns['head_pitchyaw_rad'], strict=True))
    assert_allclose(np.degrees(heads['0001/0001_2m_-15P_0V_0H']), [0, 15])
    cameras = dict(zip(index.columns['sample_id'].tolist(), index.columns['camera'].tolist(), strict=True))
    assert cameras['0001/0001_2m_-15P_0V_0H'] == '-15P'


def test_other_names_are_counted(tmp_path):
    for name in ('0001_2m_0P_0V_0H.jpg', '0001_2m_7P_0V_0H.jpg', '0001_2m_0P_0V.jpg', '0001_2m_0P_10V_0H.jpg'):
        portrait(tmp_path / 'src', name)
    (tmp_path / 'src/0001/0001_2m_0P_10V_0H.jpg').write_bytes(b'\xff\xd8 cut short')
    (tmp_path / 'src/0001/0001_2m_0P_0V_0H.jpg').rename(tmp_path / 'src/0001/0001_2m_0P_-10V_5H.JPG')
    portrait(tmp_path / 'src', '0002_2m_0P_0V_0H.jpg')
    (tmp_path / 'src/0002/0002_2m_0P_0V_0H.jpg').rename(tmp_path / 'src/0001/0002_2m_0P_0V_0H.jpg')
    summary = convert(tmp_path / 'src', tmp_path / 'out')
    assert summary['rows'] == 1
    assert summary['dropped'] == {
        'names with a person or an angle that the data set does not have': 2,
        'files whose name is no label': 1,
        'frames whose picture is damaged': 1,
    }


def test_a_wrong_folder_is_explained(tmp_path):
    with pytest.raises(UserError, match='holds no folders 0001'):
        convert(tmp_path, tmp_path / 'out')
