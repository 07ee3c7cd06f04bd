"""The reader of the original EVG's annotation files, on files written by hand from the format description."""

import json
from argparse import ArgumentParser

import cv2
import numpy as np
import pytest
from conftest import run_tool

from evg.datasets.eve import EveConverter
from evg.datasets.evg_json import TARGET_CHECK, EvgJsonConverter
from evg.datasets.index import read_index
from evg.datasets.prepare import prepare
from evg.datasets.reader_tools import SIGN_CHECK
from evg.datasets.synth import SynthEveConverter
from evg.errors import UserError
from evg.geometry import VirtualPlane, angle_between_deg, vector_to_pitchyaw
from evg.synthetic.world import SyntheticWorld

PICTURE = (128, 72)
# A screen of 480 x 270 mm, 1920 x 1080 px, that leans back by the angle of the 3-4-5 triangle; see test_prepare_eve.py.
SCREEN_TO_CAMERA = np.array([[-1, 0, 0, 240], [0, 0.8, 0.6, 20], [0, 0.6, -0.8, 0], [0, 0, 0, 1.0]])
SCREEN = ['[480, 270]', '[1920, 1080]']
# EVE's point (1440.5, 400.5) was cut to (1440, 400): (360.125, 100.125) mm on the screen.
EVE_TARGET_MM = (240 - 360.125, 20 + 0.8 * 100.125, 0.6 * 100.125)
FACE_MM = (40, 220, 660)
NUMPY_ROLL = '[ 0.8  0.6  0.  -0.6\n  0.8  0.   0.   0.   1. ]'


def eve(**changes):
    """One annotation as the EVE script writes it: numpy arrays as text, empty lists as text."""
    annotation = {
        'gazepoint': [1440, 400],
        'gazeOrigin': [str(np.array(FACE_MM, float))],
        'gazeTarget': ['[]'],
        'camera': ['[]', '[]'],
        'cameraTransformation': [str(SCREEN_TO_CAMERA.flatten())],
        'headRvec': [str(np.array([0.1, 0.2, 0.3]))],
        'gazeR': [NUMPY_ROLL],
        'monitorPose': ['[]', '[]'],
        'screenSize': SCREEN,
        'faceBbox': ['[30, -5, 90, 60]'],
    }
    return {**annotation, **changes}


def mpii(**changes):
    """One annotation as the MPIIFaceGaze script writes it; 0.25 mm/px, (1440, 400) px is (360, 100) mm."""
    rvec = cv2.Rodrigues(SCREEN_TO_CAMERA[:3, :3])[0].reshape(3)
    annotation = {
        'gazepoint': [1440, 400],
        'gazeOrigin': [str([40.0, 220.0, 660.0])],
        'gazeTarget': [str([-120.0, 100.0, 60.0])],
        'camera': ['[[100.   0.  63.5]\n [  0. 100.  35.5]\n [  0.   0.   1. ]]', '[0. 0. 0. 0. 0.]'],
        # Eight digits are what numpy prints.
        'monitorPose': [np.array2string(rvec, precision=8), '[240.  20.   0.]'],
        'screenSize': SCREEN,
    }
    return {**annotation, **changes}


def gazecapture(**changes):
    """The published row of an iPhone 5s, as the GazeCapture script writes it: the offset to the screen's centre."""
    annotation = {
        'gazepoint': [280, 528],
        'gazeOrigin': ['[]'],
        'gazeTarget': ['[]'],
        'camera': ['[]', '[]'],
        'monitorPose': ['[]', f'[{51.7 / 2 - 25.85}, {90.39 / 2 + 10.65}, 0.0]'],
        'screenSize': ['[51.7, 90.39]', '[320, 568]'],
        'faceBbox': ['[25, 14, 85, 66]'],
    }
    return {**annotation, **changes}


def write(root, annotations, names, split='train', size=PICTURE):
    """gaze_SPLIT.json and its pictures; picture k is of grey 40 + 10 k. Returns the two paths."""
    images = root / split / 'images'
    images.mkdir(parents=True)
    content = {'images': [], 'type': 'point', 'annotations': []}
    for k, (annotation, name) in enumerate(zip(annotations, names, strict=True)):
        key = 100000000001 + k
        content['images'].append({'id': key, 'file_name': name, 'width': size[0], 'height': size[1]})
        content['annotations'].append({'image_id': key, **annotation, 'id': k + 1})
        cv2.imwrite(str(images / name), np.full((size[1], size[0], 3), 40 + 10 * k, np.uint8))
    file = root / split / f'gaze_{split}.json'
    file.write_text(json.dumps(content))
    return file, images


def options(kind, *sources, offset=None, size=None, subject=None):
    """The tool's arguments for (file, images, split)."""
    words = ['--kind', kind]
    for i, name in enumerate(('--src', '--images', '--split')):
        words += [name, *(str(source[i]) for source in sources)]
    for name, value in (('--camera-offset', offset), ('--subject', subject)):
        words += [] if value is None else [name, value]
    return words + ([] if size is None else ['--size', *map(str, size)])


def convert(out, *args, **kwargs):
    """(index, summary) of a conversion in this process."""
    parser = ArgumentParser()
    EvgJsonConverter.add_arguments(parser)
    converter = EvgJsonConverter.from_args(parser.parse_args(options(*args, **kwargs)))
    summary = prepare(converter, out, jobs=1)
    return read_index(out), summary


def test_eve_by_hand(tmp_path):
    source = write(tmp_path, [eve()], ['1070080200001.jpg'])
    index, summary = convert(tmp_path / 'out', 'eve', (*source, 'train'))
    c = index.columns
    # Split 1, person 07, step 008, camera 02, picture 1: frame 0.
    assert (c['subject'][0], c['sequence'][0], c['frame'][0], c['split'][0]) == ('train07', 'step008', 0, 'train')
    gaze = np.subtract(EVE_TARGET_MM, FACE_MM)
    for name, expected in {
        'pog_screen_px': (1440.5, 400.5),
        'target_cam_mm': EVE_TARGET_MM,
        'pog_plane_offset_mm': (120.125, 100.125),
        'face_origin_mm': FACE_MM,
        'gaze': gaze / np.linalg.norm(gaze),
        'head_rvec': (0.1, 0.2, 0.3),
        'norm_rotation': (0.8, 0.6, 0, -0.6, 0.8, 0, 0, 0, 1),
        'face_box_px': (30, 0, 90, 60),
    }.items():
        assert np.allclose(c[name][0], expected, atol=1e-6), name
    # The ray through the face: on from z = 60.075 to 0.
    factor = 660 / (660 - EVE_TARGET_MM[2])
    assert np.allclose(c['pog_plane_pose_mm'][0], (-40 - factor * gaze[0], 220 + factor * gaze[1]), atol=1e-6)
    assert (vector_to_pitchyaw(c['gaze'][0]) > 0).all()
    assert summary['checks'][SIGN_CHECK] == {'median': 0, 'max': 0, 'n': 1}
    (rig,) = index.rigs.values()
    assert rig.screen_center_plane_mm == (0, 135) and rig.camera_matrix is None and rig.image_size == PICTURE
    # Pictures are read in place.
    assert (index.root / c['image'][0]).samefile(source[1] / '1070080200001.jpg')
    px = rig.ray_to_screen_px(FACE_MM, c['gaze'][0])
    assert np.linalg.norm(rig.screen_px_to_camera(px) - EVE_TARGET_MM) < 1e-3
    assert angle_between_deg(rig.screen_px_to_camera(px) - FACE_MM, gaze) < 1e-4


def test_mpiifacegaze_by_hand(tmp_path):
    train = write(tmp_path, [mpii()], ['00010005.jpg'], 'train')
    test = write(tmp_path, [mpii()], ['11120031.jpg'], 'test')
    index, summary = convert(tmp_path / 'out', 'mpiifacegaze', (*train, 'train'), (*test, 'test'), size=(64, 36))
    c = index.columns
    assert c['subject'].tolist() == ['p00', 'p11'] and c['split'].tolist() == ['train', 'test']
    assert c['sequence'].tolist() == ['day01', 'day12'] and c['frame'].tolist() == [5, 31]
    for name, expected in {
        'pog_screen_px': (1440, 400),
        'target_cam_mm': (-120, 100, 60),
        'pog_plane_offset_mm': (120, 100),
        'pog_plane_pose_mm': (136, 88),
        'face_origin_mm': FACE_MM,
    }.items():
        assert np.allclose(c[name], expected, atol=1e-4), name
    assert np.isnan(c['face_box_px']).all()
    assert summary['checks'][TARGET_CHECK]['max'] < 1e-4 and summary['checks'][SIGN_CHECK]['max'] == 0
    rig = next(iter(index.rigs.values()))
    assert rig.image_size == (64, 36) and np.allclose(rig.camera_matrix, [[50, 0, 31.5], [0, 50, 17.5], [0, 0, 1]])
    assert cv2.imread(str(index.root / c['image'][0])).shape == (36, 64, 3)


def test_gazecapture_by_hand(tmp_path):
    source = (*write(tmp_path, [gazecapture()], ['000200017.jpg']), 'train')
    index, summary = convert(tmp_path / 'camera', 'gazecapture', source)
    c = index.columns
    assert (c['subject'][0], c['frame'][0], c['device'][0]) == ('00002', 17, 'iPhone')
    assert index.dataset == 'gazecapture'
    # The published XCam, YCam of this dot, in mm.
    for name in ('pog_plane_offset_mm', 'pog_plane_pose_mm'):
        assert np.allclose(c[name][0], (19.3875, 94.67451), atol=1e-5), name
    assert np.allclose(c['target_cam_mm'][0], (-19.3875, 94.67451, 0), atol=1e-5)
    assert summary['checks'][SIGN_CHECK]['max'] == 0 and np.isnan(c['gaze']).all()
    # The original's published commands: without the camera's place.
    index, _ = convert(tmp_path / 'none', 'gazecapture', source, offset='none')
    expected = (51.7 * (280 / 320 - 0.5), 90.39 * (528 / 568 - 0.5))
    assert np.allclose(index.columns['pog_plane_offset_mm'][0], expected)
    assert np.allclose(index.columns['pog_plane_pose_mm'][0], (19.3875, 94.67451), atol=1e-5)


def test_the_same_plane_point_from_the_world_from_eve_and_from_evg_json(tmp_path):
    size, count = (320, 180), 12
    prepare(SynthEveConverter(size, 1, count, 0, (1, 0, 0)), tmp_path / 'eve', jobs=1)
    prepare(EveConverter(str(tmp_path / 'eve'), 'webcam_c', size, 1, 95), tmp_path / 'from_eve', jobs=1)
    world = SyntheticWorld('eve', size, 0)
    frames = {frame.index: frame for frame in world.sequence(0, 0, count, 30)}
    annotations = [
        eve(
            gazepoint=[int(v) for v in frame.pog_px],
            gazeOrigin=[str(frame.face_origin_mm)],
            cameraTransformation=[str(np.asarray(world.rig.screen_to_camera).flatten())],
            screenSize=['[553, 311]', '[1920, 1080]'],
            faceBbox=[str([int(v) for v in frame.face_box_px])],
        )
        for frame in frames.values()
    ]
    names = [f'10100802{number + 1:05d}.jpg' for number in frames]
    source = write(tmp_path / 'json', annotations, names, size=size)
    convert(tmp_path / 'from_json', 'eve', (*source, 'train'))
    plane = VirtualPlane((3840, 2160), 3.3)
    rows = {}
    for form in ('from_eve', 'from_json'):
        c = read_index(tmp_path / form).columns
        for i, number in enumerate(c['frame']):
            for rule in ('offset', 'pose'):
                rows[form, number, rule] = plane.from_mm(c[f'pog_plane_{rule}_mm'][i])
    compared = 0
    for number, frame in frames.items():
        direct = {
            'offset': plane.from_mm(world.rig.offset_screen_px_to_plane(frame.pog_px)),
            'pose': plane.from_mm(frame.pog_plane_ray_mm),
        }
        for rule, expected in direct.items():
            # Whole px of the screen are 0.95 px of the plane wide.
            assert np.abs(rows['from_json', number, rule] - expected).max() <= 0.5, (number, rule)
            if ('from_eve', number, rule) in rows:
                assert np.abs(rows['from_eve', number, rule] - expected).max() <= 0.05, (number, rule)
                compared += 1
    assert compared >= count


@pytest.mark.parametrize(
    ('make', 'kind', 'name', 'changes', 'reason'),
    [
        (eve, 'eve', '1070080200001.jpg', {'screenSize': []}, 'annotations with no screenSize'),
        (eve, 'eve', '1070080200001.jpg', {'screenSize': ['[1, 2]']}, 'annotations with a malformed screenSize'),
        (
            eve,
            'eve',
            '1070080200001.jpg',
            {'screenSize': ['[0, 2]', '[3, 4]']},
            'annotations with a malformed screenSize',
        ),
        (eve, 'eve', '1070080200001.jpg', {'gazepoint': [1]}, 'annotations with a malformed gazepoint'),
        (eve, 'eve', '1070080200001.jpg', {'gazepoint': None}, 'annotations with no gazepoint'),
        (eve, 'eve', '1070080200001.jpg', {'gazeOrigin': ['[nan 1. 2.]']}, 'annotations with a malformed gazeOrigin'),
        (
            eve,
            'eve',
            '1070080200001.jpg',
            {'gazeOrigin': ["__import__('os').getcwd()"]},
            'annotations with a malformed gazeOrigin',
        ),
        (eve, 'eve', '1070080200001.jpg', {'gazeOrigin': ['1 ' * 3000]}, 'annotations with a malformed gazeOrigin'),
        (eve, 'eve', '1070080200001.jpg', {'faceBbox': ['[200, 10, 220, 30]']}, 'pictures whose face box is outside'),
        (eve, 'eve', 'frame7.jpg', {}, 'pictures whose name does not tell the person (--subject)'),
        (gazecapture, 'gazecapture', '000200017.jpg', {'monitorPose': ['[]', '[]']}, 'annotations with no monitorPose'),
        (
            mpii,
            'gazecapture',
            '000200017.jpg',
            {},
            "annotations with a monitorPose that is not GazeCapture's offset",
        ),
    ],
)
def test_unusable_annotations_are_counted_by_reason(tmp_path, make, kind, name, changes, reason):
    good = {'eve': '1070080200002.jpg', 'gazecapture': '000200018.jpg'}[kind]
    fine = gazecapture() if kind == 'gazecapture' else eve()
    source = write(tmp_path, [make(**changes), fine], [name, good])
    index, summary = convert(tmp_path / 'out', kind, (*source, 'train'))
    assert len(index) == 1 and summary['dropped'] == {reason: 1}


def test_pictures_and_annotations_that_do_not_pair_up(tmp_path):
    names = [f'107008020000{k}.jpg' for k in range(1, 7)]
    file, images = write(tmp_path, [eve()] * 6, names)
    content = json.loads(file.read_text())
    content['annotations'][1]['image_id'] = 5
    content['annotations'].append(dict(content['annotations'][0]))
    content['images'][4]['file_name'] = '../gaze_train.json'
    content['images'].append(7)
    file.write_text(json.dumps(content))
    (images / names[2]).unlink()
    (images / names[3]).write_bytes((images / names[3]).read_bytes()[:300])
    index, summary = convert(tmp_path / 'out', 'eve', (file, images, 'train'))
    assert index.columns['frame'].tolist() == [0, 5]
    assert summary['dropped'] == {
        'pictures without an annotation': 2,
        'annotations of a picture that is not listed': 1,
        'further annotations of a picture (the original reads the first)': 1,
        'frames whose picture is missing': 1,
        'frames whose picture is damaged': 1,
        'pictures without a usable file_name': 1,
    }


def test_pictures_smaller_than_annotated_and_names_of_ones_own(tmp_path):
    file, images = write(tmp_path, [eve(), eve(cameraTransformation=[])], ['anna-1.jpg', 'ben-1.jpg'])
    for name in ('anna-1.jpg', 'ben-1.jpg'):
        cv2.imwrite(str(images / name), np.full((36, 64, 3), 90, np.uint8))
    index, summary = convert(tmp_path / 'out', 'eve', (file, images, 'val'), subject=r'^(\w+)-')
    c = index.columns
    assert c['subject'].tolist() == ['anna', 'ben'] and set(c['split']) == {'val'}
    # Half as large: 30 -> 14.75, 90 -> 44.75, 60 -> 29.75.
    assert np.allclose(c['face_box_px'], [14.75, 0, 44.75, 29.75])
    assert np.isnan(c['target_cam_mm'][1]).all() and np.allclose(c['pog_plane_offset_mm'], (120.125, 100.125))
    assert summary['notes'] == {
        'pictures of another size than annotated (labels in px are scaled along)': 2,
        'rows without a calibrated pose (no 3-D labels)': 1,
    }


def test_labels_of_another_convention_are_refused(tmp_path):
    source = write(tmp_path, [mpii(gazeTarget=['[120, 100, 60]'])], ['00010005.jpg'])
    with pytest.raises(UserError, match=r'gazeTarget and the target by monitorPose differ by 240.0 mm'):
        convert(tmp_path / 'out', 'mpiifacegaze', (*source, 'train'))
    inverse = np.linalg.inv(np.diag([-1, 1, 1, 1]) @ SCREEN_TO_CAMERA)
    source = write(tmp_path / 'b', [eve(cameraTransformation=[str(inverse.flatten())])], ['1070080200001.jpg'])
    with pytest.raises(UserError, match='100% of the targets are on the wrong side of the camera'):
        convert(tmp_path / 'out2', 'eve', (*source, 'train'))


def test_wrong_input_is_one_clear_line(tmp_path):
    file, images = write(tmp_path, [eve()], ['1070080200001.jpg'])
    half = tmp_path / 'half.json'
    half.write_text(file.read_text()[:300])
    other = tmp_path / 'other.json'
    other.write_text('{"images": [1]}')
    for source, kwargs, part in (
        ((half, images, 'train'), {}, 'half.json cannot be read as JSON'),
        ((tmp_path / 'none.json', images, 'train'), {}, 'none.json cannot be read as JSON'),
        ((other, images, 'train'), {}, 'other.json is not an annotation file of EVG'),
        ((file, tmp_path / 'none', 'train'), {}, '--images .*none is not a folder'),
        ((file, images, 'train'), {'offset': 'tvecs'}, '--camera-offset tvecs is for --kind gazecapture'),
        ((file, images, 'train'), {'subject': '('}, 'is not a regular expression'),
        ((file, images, 'train'), {'subject': 'p'}, 'has no group'),
        ((file, images, 'train'), {'size': (8, 8)}, '--size must be at least 16 16'),
    ):
        with pytest.raises(UserError, match=part):
            convert(tmp_path / 'out', 'eve', source, **kwargs)
    words = [*options('eve', (file, images, 'train')), '--out', tmp_path / 'out']
    done = run_tool('prepare_data', 'evg-json', *words, '--src', file, file, code=2)
    assert (
        done.stderr
        == 'error: 2 --src, 1 --images and 1 --split: give one folder and one split for each annotation file\n'
    )
    assert '1 rows in the index' in run_tool('prepare_data', 'evg-json', *words).stdout
