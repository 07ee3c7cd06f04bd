"""Gaze360's reader on lists, pictures and a metadata.mat written by hand, with labels worked out on paper."""

import cv2
import numpy as np
import pytest
from conftest import ROOT
from scipy.io import savemat

from evg.config import load_config
from evg.datasets.gaze360 import CHECK, Gaze360Converter
from evg.datasets.gaze_dataset import GazeDataset
from evg.datasets.index import read_index
from evg.datasets.prepare import prepare
from evg.datasets.transforms import LoadImage, RandomFlip
from evg.errors import UserError
from evg.geometry import angle_between_deg, vector_to_pitchyaw
from evg.registry import DATASETS

# (recording, person, frame, split 0..3, gaze_dir, has a face): x to the left, y up, z away from the camera.
RIGHT_UP = (0.36, 0.48, -0.8)
INTO_CAMERA, BEHIND = (0, 0, -1), (0.6, 0, 0.8)
ROWS = (
    ('rec_022', 0, 131, 0, RIGHT_UP, True),
    ('rec_022', 1, 131, 0, INTO_CAMERA, True),
    ('rec_030', 0, 5, 1, INTO_CAMERA, True),
    ('rec_031', 0, 6, 2, BEHIND, False),
    ('rec_031', 0, 7, 3, BEHIND, False),
)
LISTS = ('train.txt', 'validation.txt', 'test.txt')
# Of the full frame, 3382 x 4096: the head's box is 0.1 x 0.05 of it, the face's lies in its middle half.
HEAD, FACE = (0.2, 0.4, 0.1, 0.05), (0.225, 0.4125, 0.05, 0.025)
CROP = (338, 204)


def write(tmp_path, rows=ROWS, gaze_dir=None, damage=None):
    """The release: pictures, metadata.mat with its cells of strings, and the lists of the code."""
    for i, (recording, person, frame, *_) in enumerate(rows):
        path = tmp_path / f'src/imgs/{recording}/head/{person:06d}/{frame:06d}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((CROP[1], CROP[0], 3), 40 + i, np.uint8))
    names = sorted({row[0] for row in rows})

    def cell(values):
        array = np.empty((1, len(values)), object)
        array[0] = values
        return array

    def scalars(values):
        return np.array(values, np.int64)[None]

    metadata = {
        'recordings': cell(names),
        'splits': cell(['train', 'val', 'test', 'unused']),
        'recording': scalars([names.index(row[0]) for row in rows]),
        'person_identity': scalars([row[1] for row in rows]),
        'frame': scalars([row[2] for row in rows]),
        'split': scalars([row[3] for row in rows]),
        'ts': np.array([row[2] / 10 for row in rows])[None],
        'gaze_dir': np.array([row[4] for row in rows], float) if gaze_dir is None else np.array(gaze_dir, float),
        'person_head_bbox': np.tile(HEAD, (len(rows), 1)),
        'person_face_bbox': np.array([FACE if row[5] else (-1, -1, -1, -1) for row in rows], float),
    }
    savemat(tmp_path / 'src/metadata.mat', {k: v for k, v in metadata.items() if k != damage})
    (tmp_path / 'code').mkdir(exist_ok=True)
    for split, name in enumerate(LISTS):
        lines = [
            f'{recording}/head/{person:06d}/{frame:06d}.jpg {" ".join(map(str, gaze))}'
            for recording, person, frame, where, gaze, _ in rows
            if where == split
        ]
        (tmp_path / 'code' / name).write_text('\n'.join(lines) + '\n')


def convert(tmp_path):
    summary = prepare(Gaze360Converter(str(tmp_path / 'src'), str(tmp_path / 'code')), tmp_path / 'out', jobs=1)
    return read_index(tmp_path / 'out'), summary


def test_release_by_hand(tmp_path):
    write(tmp_path)
    index, summary = convert(tmp_path)
    c = index.columns
    assert (index.dataset, index.gaze_frame) == ('gaze360', 'line_of_sight')
    assert summary['splits'] == {'train': [2, 2], 'val': [1, 1], 'test': [1, 1]} and summary['dropped'] == {}
    assert c['sample_id'].tolist()[0] == 'rec_022/000000/000131'
    assert c['subject'].tolist() == ['rec_022/000000', 'rec_022/000001', 'rec_030/000000', 'rec_031/000000']
    assert c['image'][0] == '../src/imgs/rec_022/head/000000/000131.jpg'
    assert c['frame'].tolist() == [131, 131, 5, 6] and np.allclose(c['time_s'], [13.1, 13.1, 0.5, 0.6])
    # Up and to the user's right: x and y change sign.
    assert np.allclose(c['gaze'][0], (-0.36, -0.48, -0.8)) and (vector_to_pitchyaw(c['gaze'][0]) > 0).all()
    assert np.allclose(c['gaze'][1], (0, 0, -1)) and np.allclose(c['gaze'][3], (-0.6, 0, 0.8))
    # The three figures of the paper need the angle to the direction into the camera alone.
    to_camera = angle_between_deg(c['gaze'], (0, 0, -1))
    assert (to_camera <= 20).tolist() == [False, True, True, False]
    assert (to_camera <= 90).tolist() == [True, True, True, False]
    # A quarter to three quarters of the crop; px edges at -0.5.
    expected = [338 / 4 - 0.5, 204 / 4 - 0.5, 338 * 3 / 4 - 0.5, 204 * 3 / 4 - 0.5]
    assert np.allclose(c['face_box_px'][0], expected, atol=1e-3) and np.isnan(c['face_box_px'][3]).all()
    assert summary['checks'][CHECK] == {'median': 0.0, 'max': 0.0, 'n': 4}


def test_head_crops_in_a_dataset(tmp_path):
    write(tmp_path)
    convert(tmp_path)
    sample = GazeDataset(str(tmp_path / 'out'), [LoadImage(), RandomFlip(1.0)], 'train', labels='gaze')[0]
    assert sample['image_size'] == CROP and abs(int(sample['img'][0, 0, 0]) - 40) < 3
    assert np.allclose(sample['gt_gaze'], (0.36, -0.48, -0.8)) and sample['gaze_frame'] == 'line_of_sight'


def test_config(tmp_path):
    write(tmp_path)
    convert(tmp_path)
    bases = [str(ROOT / 'configs/_base_' / name) for name in ('default_runtime.py', 'datasets/gaze360.py')]
    (tmp_path / 'model.py').write_text('codecs = dict()\n')
    (tmp_path / 'cfg.py').write_text(f'_base_ = {[*bases, "./model.py"]}\n')
    cfg = load_config(tmp_path / 'cfg.py', [f'data_root={tmp_path / "out"}'])
    for loader, count in (('train', 2), ('val', 1), ('test', 1)):
        data = DATASETS.build(cfg[f'{loader}_dataloader']['dataset'])
        assert len(data) == count and data[0]['inputs'].shape == (3, 224, 224)


def test_lists_and_metadata_that_disagree_are_refused(tmp_path):
    write(tmp_path, gaze_dir=[np.multiply(row[4], (1, -1, 1)) if row[4] == RIGHT_UP else (1, 0, 0) for row in ROWS])
    with pytest.raises(UserError, match=r'the list and gaze_dir of metadata.mat differ by \d+\.\d+ deg'):
        convert(tmp_path)


def test_damaged_rows_and_pictures_are_counted(tmp_path):
    rows = (*ROWS, ('rec_040', 0, 1, 0, (3, 4, 0), True), ('rec_040', 0, 2, 0, INTO_CAMERA, True))
    write(tmp_path, rows)
    write_metadata_of_five_rows = tmp_path / 'five'
    write_metadata_of_five_rows.mkdir()
    write(write_metadata_of_five_rows)
    (write_metadata_of_five_rows / 'src/metadata.mat').replace(tmp_path / 'src/metadata.mat')
    path = tmp_path / 'src/imgs/rec_022/head/000001/000131.jpg'
    path.write_bytes(path.read_bytes()[:200])
    (tmp_path / 'src/imgs/rec_030/head/000000/000005.jpg').unlink()
    index, summary = convert(tmp_path)
    assert summary['dropped'] == {
        'pictures that are missing or cannot be read': 2,
        'rows whose gaze is not a unit vector': 1,
    }
    assert summary['notes'] == {'rows of the lists that metadata.mat does not have': 1}
    assert index.columns['sample_id'].tolist() == [
        'rec_022/000000/000131',
        'rec_040/000000/000002',
        'rec_031/000000/000006',
    ]


@pytest.mark.parametrize(
    ('line', 'text'),
    [
        ('rec_022/head/000000/000131.jpg 0 0', 'line 1: .* is not "rec_000/head'),
        ('rec_022/body/000000/000131.jpg 0 0 -1', 'is not "rec_000/head'),
        ('rec_022/head/000000/000131.jpg 0 nan -1', 'is not "rec_000/head'),
    ],
)
def test_lines_that_are_no_labels(tmp_path, line, text):
    write(tmp_path)
    (tmp_path / 'code/validation.txt').write_text(line + '\n')
    with pytest.raises(UserError, match=text):
        convert(tmp_path)


def test_wrong_sources(tmp_path):
    write(tmp_path, damage='gaze_dir')
    with pytest.raises(UserError, match=r"metadata\.mat cannot be read as the metadata of Gaze360 \('gaze_dir'\)"):
        convert(tmp_path)
    (tmp_path / 'code/test.txt').unlink()
    with pytest.raises(UserError, match=r'there is no .*code/test\.txt: Gaze360 is at'):
        convert(tmp_path)
