"""ETH-XGaze's readers on files written by hand from the format description, with labels worked out on paper."""

import json

import cv2
import h5py
import numpy as np
import pytest
from conftest import ROOT

from evg.config import load_config
from evg.datasets.ethxgaze import (
    HEAD_CHECK,
    POSE_CHECK,
    VAL_SUBJECTS,
    EthXGazeConverter,
    EthXGazeRawConverter,
)
from evg.datasets.gaze_dataset import GazeDataset
from evg.datasets.index import read_index
from evg.datasets.prepare import prepare
from evg.datasets.transforms import LoadImage
from evg.errors import UserError
from evg.geometry import vector_to_pitchyaw
from evg.registry import DATASETS

# A face at (360, 0, 480) mm: 600 mm away, in the direction (0.6, 0, 0.8) that becomes the z axis.
FACE_MM = (360, 0, 480)
R = np.array([[0.8, 0, -0.6], [0, 1, 0], [0.6, 0, 0.8]])
# A gaze up and to the user's right in the normalised camera: sin(pitch) = 3 / 5, tan(yaw) = 5 / 12; not equal, so that
# their order counts.
GAZE, LABEL = (-4 / 13, -0.6, -9.6 / 13), (np.arcsin(0.6), np.arctan2(5, 12))
# 650 mm along it from the face: R^T GAZE = (-8.96, -7.8, -5.28) / 13, so (-448, -390, -264) mm.
TARGET_MM = (-88, -390, 216)
HEAD_LABEL = (0.1, -0.2)
SIZE = 32


def write_person(path, count=4, labelled=True, **changes):
    """One h5 file; each patch has its own colour: blue 10, green 20 + row, red 200."""
    path.parent.mkdir(parents=True, exist_ok=True)
    patches = np.empty((count, SIZE, SIZE, 3), np.uint8)
    patches[:] = (10, 20, 200)
    patches[..., 1] += np.arange(count, dtype=np.uint8)[:, None, None]
    data = {
        'face_gaze': np.tile(LABEL, (count, 1)),
        'face_head_pose': np.tile(HEAD_LABEL, (count, 1)),
        'face_mat_norm': np.tile(R, (count, 1, 1)),
        'cam_index': np.full((count, 1), 13),
        'frame_index': np.arange(count)[:, None] // 2 + 7,
        **changes,
    }
    if not labelled:
        del data['face_gaze']
    with h5py.File(path, 'w') as file:
        file.create_dataset('face_patch', data=patches, chunks=(1, SIZE, SIZE, 3), compression='lzf')
        for name, values in data.items():
            file[name] = values


def write_release(src, key='test_specific'):
    """xgaze_224 of five persons."""
    lists = {'train': [3, 24], 'test': [2, 1], key: [12]}
    names = {name: [f'subject{number:04d}.h5' for number in numbers] for name, numbers in lists.items()}
    for name, folder in (('train', 'train'), ('test', 'test'), (key, 'test_person_specific')):
        for file in names[name]:
            write_person(src / folder / file, labelled=name == 'train')
    (src / 'train_test_split.json').write_text(json.dumps(names))


def convert(src, out, test_set='within', val=(24,)):
    summary = prepare(EthXGazeConverter(str(src), test_set, val), out, jobs=1)
    return read_index(out), summary


def test_the_validation_persons_are_train_persons():
    # The train list of datasets.md 4.3, written out.
    numbers = [0, *range(3, 11), *range(13, 17), 18, 19, 21, 24, *range(26, 34), 35, 36, *range(38, 42), *range(43, 47)]
    numbers += [48, *range(50, 53), *range(55, 64), *range(65, 68), 69, 72, 73, 75, 76, *range(78, 82), *range(83, 86)]
    numbers += [88, 90, 92, 95, *range(98, 110), 111]
    assert len(numbers) == 80
    named = (1, 23, 24, 35, 38, 46, 58, 63, 70, 78)
    assert tuple(number for number in named if number in numbers) == VAL_SUBJECTS


@pytest.mark.parametrize('key', ['test_specific', 'test_person_specific'])
def test_h5_files_in_place(tmp_path, key):
    src = tmp_path / 'xgaze_224'
    write_release(src, key)
    index, summary = convert(src, tmp_path / 'out')
    c = index.columns
    assert (index.dataset, index.gaze_frame, index.rigs) == ('ethxgaze', 'normalised_r', {})
    # The order of the json file, then of the rows: that of the submission.
    assert list(dict.fromkeys(c['subject'])) == ['subject0003', 'subject0024', 'subject0002', 'subject0001']
    assert summary['splits'] == {'train': [4, 1], 'val': [4, 1], 'test': [8, 2]}
    assert c['sample_id'][1] == 'subject0003/000001'
    assert c['image'][1] == '../xgaze_224/train/subject0003.h5#face_patch/1'
    assert c['frame'].tolist() == [0, 1, 2, 3] * 4
    assert c['sequence'][:4].tolist() == ['frame0007', 'frame0007', 'frame0008', 'frame0008']
    assert set(c['camera']) == {'cam13'} and set(c['rig']) == {''}
    labelled = c['split'] != 'test'
    assert np.allclose(c['gaze'][labelled], GAZE, atol=1e-12) and np.isnan(c['gaze'][~labelled]).all()
    assert (vector_to_pitchyaw(c['gaze'][labelled]) > 0).all()
    assert np.allclose(c['head_pitchyaw_rad'], HEAD_LABEL) and np.allclose(c['norm_rotation'], R.reshape(9))
    assert summary['checks'][HEAD_CHECK]['n'] == 8
    # Nothing was copied.
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == ['.prepare', 'index.parquet']
    # A second run has nothing to do.
    assert convert(src, tmp_path / 'out')[1] == summary
    specific, _ = convert(src, tmp_path / 'specific', 'person-specific')
    assert set(specific.columns['subject'][specific.columns['split'] == 'test']) == {'subject0012'}


def test_dataset_of_patches(tmp_path):
    write_release(tmp_path / 'xgaze_224')
    convert(tmp_path / 'xgaze_224', tmp_path / 'out')
    bases = [str(ROOT / 'configs/_base_' / name) for name in ('default_runtime.py', 'datasets/ethxgaze.py')]
    (tmp_path / 'model.py').write_text('codecs = dict()\n')
    (tmp_path / 'cfg.py').write_text(f'_base_ = {[*bases, "./model.py"]}\n')
    cfg = load_config(tmp_path / 'cfg.py', [f'data_root={tmp_path / "out"}'])
    data = DATASETS.build(cfg.val_dataloader['dataset'])
    assert len(data) == 4 and data.metainfo['train_mean_plane_mm'] is None
    packed = data[2]
    sample = packed['data_samples']
    assert packed['inputs'].shape == (3, 224, 224)
    assert packed['inputs'][:, 112, 112].tolist() == [10, 22, 200]
    assert np.allclose(sample.gt_gaze, GAZE) and sample.gaze_frame == 'normalised_r'
    assert np.allclose(sample.norm_rotation, R) and sample.gt_plane_mm is None and sample.rig is None
    assert np.allclose(sample.gt_head_pitchyaw_rad, HEAD_LABEL)
    flipped = DATASETS.build({**cfg.train_dataloader['dataset'], 'pipeline': mirrored(cfg.train_pipeline)})[0]
    assert np.allclose(flipped['data_samples'].gt_gaze, GAZE * np.array([-1, 1, 1]))
    # The test persons have no labels: refused for figures, allowed for the submission.
    with pytest.raises(UserError, match=r'8 of 8 rows have no gaze .*subject0002/000000'):
        GazeDataset(str(tmp_path / 'out'), [LoadImage()], 'test', labels='gaze')
    with pytest.raises(UserError, match='no pog_plane_offset_mm'):
        GazeDataset(str(tmp_path / 'out'), [LoadImage()], 'val')
    with pytest.raises(UserError, match="'plane', 'gaze', 'landmarks' or None"):
        GazeDataset(str(tmp_path / 'out'), [LoadImage()], 'val', labels='pog')
    test = GazeDataset(str(tmp_path / 'out'), [LoadImage()], 'test', labels=None)
    assert test[7]['gt_gaze'] is None and test[7]['img'][0, 0].tolist() == [10, 23, 200]


def mirrored(pipeline):
    return [{**step, 'prob': 1.0} if step['type'] == 'RandomFlip' else step for step in pipeline]


def test_a_moved_source_is_one_clear_line(tmp_path):
    write_release(tmp_path / 'xgaze_224')
    convert(tmp_path / 'xgaze_224', tmp_path / 'out')
    (tmp_path / 'xgaze_224').rename(tmp_path / 'moved')
    with pytest.raises(
        UserError, match=r'row 0 \(subject0003/000000\): there is no picture .*subject0003\.h5; prepare'
    ):
        GazeDataset(str(tmp_path / 'out'), [LoadImage()], 'train', labels='gaze')


@pytest.mark.parametrize(
    ('address', 'text'),
    [
        ('a.h5#face_patch/9', r'cannot read picture face_patch/9 of .*a\.h5'),
        ('a.h5#patch/0', 'cannot read picture patch/0'),
        ('a.h5#face_patch/x', 'face_patch/x'),
        ('b.h5#face_patch/0', r'b\.h5'),
        ('a.h5#face_gaze/0', 'is not a picture'),
    ],
)
def test_pictures_of_h5_files_that_are_not_there(tmp_path, address, text):
    write_person(tmp_path / 'a.h5')
    with pytest.raises(UserError, match=text):
        LoadImage()({'img_path': str(tmp_path / address)})


def test_pictures_stored_with_the_channels_first(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 20, 30))
    with h5py.File(tmp_path / 'p00.mat', 'w') as file:
        file['Data/data'] = image.astype(np.float64)
    read = LoadImage()({'img_path': str(tmp_path / 'p00.mat#Data/data/1')})
    assert read['image_size'] == (30, 20) and np.array_equal(read['img'], image[1].transpose(1, 2, 0))


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        ({'face_gaze': np.full((4, 2), 20.0)}, 'not radians'),
        ({'face_mat_norm': np.tile(np.diag([1, 1, 0.8]) @ R, (4, 1, 1))}, 'not R of the 2018'),
        ({'face_head_pose': np.zeros((3, 2))}, 'cannot reshape'),
    ],
)
def test_files_of_another_convention_are_refused(tmp_path, changes, text):
    write_release(tmp_path / 'src')
    write_person(tmp_path / 'src/train/subject0003.h5', **changes)
    index, summary = convert(tmp_path / 'src', tmp_path / 'out')
    assert list(summary['failed']) == ['train/subject0003'] and text in summary['failed']['train/subject0003']
    assert 'subject0003' not in index.columns['subject']


def test_rows_and_files_that_are_damaged_are_counted(tmp_path):
    write_release(tmp_path / 'src')
    labels = np.tile(LABEL, (4, 1))
    labels[1, 0] = np.nan
    write_person(tmp_path / 'src/train/subject0003.h5', face_gaze=labels)
    (tmp_path / 'src/test/subject0002.h5').write_bytes(b'\x89HDF\r\n\x1a\n cut')
    (tmp_path / 'src/test/subject0001.h5').unlink()
    write_person(tmp_path / 'src/train/subject0024.h5', labelled=False)
    index, summary = convert(tmp_path / 'src', tmp_path / 'out')
    assert summary['dropped'] == {'rows whose labels are not finite': 1}
    assert index.columns['sample_id'].tolist() == [f'subject0003/00000{i}' for i in (0, 2, 3)]
    assert index.columns['image'][1].endswith('#face_patch/2')
    assert sorted(summary['failed']) == ['test/subject0001', 'test/subject0002', 'train/subject0024']


def test_wrong_split_files(tmp_path):
    write_release(tmp_path / 'a/src')
    with pytest.raises(UserError, match=f'did you mean --src {tmp_path}/a/src'):
        convert(tmp_path / 'a', tmp_path / 'out')
    with pytest.raises(UserError, match='--val-subjects 1 99: not among the train persons'):
        convert(tmp_path / 'a/src', tmp_path / 'out', val=(24, 1, 99))
    path = tmp_path / 'a/src/train_test_split.json'
    path.write_text(json.dumps({'train': ['subject0003.h5'], 'test': ['subject0003.h5']}))
    with pytest.raises(UserError, match=r'subject0003\.h5 as train and as test'):
        convert(tmp_path / 'a/src', tmp_path / 'out')
    with pytest.raises(UserError, match='test_specific or test_person_specific are needed'):
        convert(tmp_path / 'a/src', tmp_path / 'out', 'person-specific')
    path.write_text('{')
    with pytest.raises(UserError, match='not a json file'):
        convert(tmp_path / 'a/src', tmp_path / 'out')


# The raw release. Photographs are 1200 x 800 here: the face, 600 mm away and turned to none, is at px 100 + 800 * 0.75.
CAMERA = np.array([[800.0, 0, 100], [0, 800, 400], [0, 0, 1]])
# Head frame = camera axes: eye corners 35 mm above, nose corners 35 mm below the origin. The mean of the two means is
# the origin, the mean of all six is not.
CORNERS = np.array([(-45, -35, 0), (-20, -35, 0), (20, -35, 0), (45, -35, 0), (-15, 35, 0), (15, 35, 0.0)])
LANDMARKS = (36, 39, 42, 45, 31, 35)
COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255))


def xml(matrix):
    """A camera file as OpenCV writes it."""

    def node(name, values):
        values = np.atleast_2d(values)
        data = ' '.join(map(str, values.reshape(-1)))
        shape = f'<rows>{values.shape[0]}</rows><cols>{values.shape[1]}</cols>'
        return f'<{name} type_id="opencv-matrix">{shape}<dt>d</dt><data>{data}</data></{name}>'

    body = node('Camera_Matrix', matrix) + node('Distortion_Coefficients', np.full((1, 5), 0.3))
    body += node('cam_translation', np.zeros((3, 1))) + node('cam_rotation', np.eye(3))
    size = '<image_Width>1200</image_Width><image_Height>800</image_Height>'
    return f'<?xml version="1.0"?>\n<opencv_storage>\n{size}\n{body}\n</opencv_storage>\n'


def landmarks_px():
    points = CORNERS + FACE_MM
    landmarks = np.full((68, 2), 650.0)
    landmarks[list(LANDMARKS)] = np.column_stack(
        [100 + 800 * points[:, 0] / points[:, 2], 400 + 800 * points[:, 1] / points[:, 2]]
    )
    return landmarks


def csv_line(frame=7, camera=0, target=TARGET_MM, landmarks=None):
    values = [
        960.5,
        540.25,
        *target,
        0,
        0,
        0,
        *FACE_MM,
        *(landmarks_px() if landmarks is None else landmarks).reshape(-1),
    ]
    return ','.join([f'frame{frame:04d}', f'cam{camera:02d}.JPG', *map(str, values)])


def write_raw(src, lines, subject='subject0003', pictures=((7, 0), (7, 3))):
    """Photographs with a coloured dot at each corner; those of camera 3 stand on their heads."""
    (src / 'calibration/cam_calibration').mkdir(parents=True, exist_ok=True)
    for camera in (0, 3):
        (src / f'calibration/cam_calibration/cam{camera:02d}.xml').write_text(xml(CAMERA))
    model = np.full((50, 3), 99.0)
    model[[20, 23, 26, 29, 15, 19]] = CORNERS
    np.savetxt(src / 'calibration/face_model.txt', model)
    (src / 'data/annotation_train').mkdir(parents=True, exist_ok=True)
    (src / f'data/annotation_train/{subject}.csv').write_text('\n'.join(lines) + '\n')
    for frame, camera in pictures:
        folder = src / f'data/train/{subject}/frame{frame:04d}'
        folder.mkdir(parents=True, exist_ok=True)
        image = np.zeros((800, 1200, 3), np.uint8)
        for (x, y), color in zip(landmarks_px()[list(LANDMARKS)], COLORS, strict=True):
            cv2.circle(image, (round(x), round(y)), 5, color, -1)
        cv2.imwrite(str(folder / f'cam{camera:02d}.JPG'), image[::-1, ::-1] if camera == 3 else image)


def convert_raw(src, out, size=(224, 224), distance=600):
    summary = prepare(EthXGazeRawConverter(str(src), (24,), size, 960, distance, 95), out, jobs=1)
    return read_index(out), summary


@pytest.mark.parametrize('camera', [0, 3])
def test_photographs_by_hand(tmp_path, camera):
    write_raw(tmp_path / 'src', [csv_line(camera=camera)])
    index, summary = convert_raw(tmp_path / 'src', tmp_path / 'out')
    c = index.columns
    assert len(index) == 1 and summary['dropped'] == {} and index.gaze_frame == 'normalised_r'
    assert summary['checks'][POSE_CHECK]['max'] < 1e-3
    assert c['sample_id'][0] == f'subject0003/0007_{camera:02d}' and c['camera'][0] == f'cam{camera:02d}'
    assert (c['split'][0], c['subject'][0], c['sequence'][0]) == ('train', 'subject0003', 'frame0007')
    for name, expected in {
        'gaze': GAZE,
        'norm_rotation': R.reshape(9),
        'face_origin_mm': FACE_MM,
        'target_cam_mm': TARGET_MM,
        'head_rvec': (0, 0, 0),
        'head_tvec_mm': FACE_MM,
        'pog_screen_px': (960.5, 540.25),
        # The head's z axis, (0, 0, 1), is (-0.6, 0, 0.8) there: the face points to (0.6, 0, -0.8), the user's left.
        'head_pitchyaw_rad': (0, -np.arctan2(0.6, 0.8)),
    }.items():
        assert np.allclose(c[name][0], expected, atol=1e-9), name
    assert c['norm_scale'][0] == pytest.approx(1) and (vector_to_pitchyaw(c['gaze'][0]) > 0).all()
    # A corner at R (x, y, 0) = (0.8 x, y, 0.6 x) from a point 600 mm ahead, f = 960, middle at 112.
    patch = cv2.imread(str(index.root / c['image'][0]))
    assert patch.shape == (224, 224, 3)
    for (x, y, _), color in zip(CORNERS, COLORS, strict=True):
        place = 112 + 960 * np.array([0.8 * x, y]) / (600 + 0.6 * x)
        px = np.rint(place).astype(int)
        assert np.abs(patch[px[1], px[0]].astype(int) - color).max() < 80
    eye = c['eye_landmarks_px'][0].reshape(12, 2)
    assert np.allclose(eye[0], 112 + 960 * np.array([-36, -35]) / 573, atol=1e-4)
    assert np.allclose(eye[9], 112 + 960 * np.array([36, -35]) / 627, atol=1e-4)


def test_the_patch_of_448_px_is_the_same_view(tmp_path):
    write_raw(tmp_path / 'src', [csv_line()])
    small, _ = convert_raw(tmp_path / 'src', tmp_path / 'small')
    large, _ = convert_raw(tmp_path / 'src', tmp_path / 'large', (448, 448), 300)
    landmarks = [index.columns['eye_landmarks_px'][0] for index in (small, large)]
    assert np.allclose(landmarks[1], 2 * landmarks[0], atol=1e-3)
    assert large.columns['norm_scale'][0] == pytest.approx(0.5)


def test_bad_lines_and_pictures_are_counted(tmp_path):
    other = landmarks_px()
    other = np.array([1199, 799]) - other  # of the picture that stands on its head
    lines = [csv_line(), 'frame0008,cam00.JPG,1,2', csv_line(target=(1, 2, np.nan)), csv_line(frame=9), 'x', '']
    write_raw(tmp_path / 'src', [*lines, csv_line(camera=3, landmarks=other)])
    write_raw(tmp_path / 'src', [csv_line()], 'subject0024')
    index, summary = convert_raw(tmp_path / 'src', tmp_path / 'out')
    assert summary['splits'] == {'train': [1, 1], 'val': [1, 1]} and len(index) == 2
    assert summary['dropped'] == {
        'csv lines that are not 149 names and finite numbers': 3,
        'pictures that are missing or cannot be read': 1,
        'frames whose head pose does not fit the landmarks': 1,
    }


def test_raw_source_without_calibration(tmp_path):
    with pytest.raises(UserError, match=r'no data/annotation_train/subject\*\.csv'):
        convert_raw(tmp_path, tmp_path / 'out')
    write_raw(tmp_path / 'src', [csv_line()])
    (tmp_path / 'src/calibration/cam_calibration/cam00.xml').unlink()
    with pytest.raises(UserError, match=r'cam00\.xml is missing'):
        convert_raw(tmp_path / 'src', tmp_path / 'out')
    (tmp_path / 'src2').mkdir()
    write_raw(tmp_path / 'src2', [csv_line()])
    (tmp_path / 'src2/calibration/face_model.txt').write_text('1 2 3\n')
    with pytest.raises(UserError, match=r'face_model\.txt holds \(3,\) numbers, not 50 points'):
        convert_raw(tmp_path / 'src2', tmp_path / 'out')
