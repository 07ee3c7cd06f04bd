"""What holds for every reader: signs, the way from a label to the screen and back, and its page in the docs.

Each case writes the data set's own format by the test of its reader, with a person who looks up and to their right.
"""

import re
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import test_prepare_columbia as columbia
import test_prepare_ethxgaze as ethxgaze
import test_prepare_eve as eve
import test_prepare_evg_json as evg_json
import test_prepare_gaze360 as gaze360
import test_prepare_gazecapture as gazecapture
import test_prepare_gazehub as gazehub
import test_prepare_mpiifacegaze as mpiifacegaze
import test_prepare_syntheseyes as syntheseyes
import test_prepare_unityeyes as unityeyes
from conftest import ROOT

from evg.config import load_config
from evg.datasets.converter import CONVERTERS, converter_class
from evg.datasets.index import read_index
from evg.datasets.prepare import prepare
from evg.geometry import InputFrame, angle_between_deg, vector_to_pitchyaw
from evg.registry import DATASETS

# What tells one of several formats of a data set.
KINDS = ('mpiifacegaze', 'eyediap', 'gaze360', 'rtgene', 'ethxgaze')


@dataclass(frozen=True)
class Case:
    """How to write a source folder, the options of the tool that read it, and the base config of the result."""

    write: Callable
    base: str
    options: tuple[str, ...] = ()
    screen: bool = False


def _hub(kind):
    def write(src):
        file, picture, *_ = gazehub.PLAIN[kind]
        gazehub.write(src, kind, {file: [gazehub.cells(kind, picture)]})

    more = ('--sign', 'subject', '--frame', 'head') if kind == 'rtgene' else ()
    return Case(write, 'gazehub_mpiifacegaze' if kind == 'mpiifacegaze' else kind, ('--kind', kind, *more))


def _json(make, kind, name):
    def write(src):
        file, images = evg_json.write(src.parent, [make()], [name], src.name)
        images.rename(src / 'pictures')
        file.rename(src / 'gaze.json')

    return Case(write, kind, ('--kind', kind, '--split', 'train'), screen=True)


def _gaze360(src):
    gaze360.write(src.parent)
    (src.parent / 'src').rename(src)


def _dot(src):
    """GazeCapture: 20 mm right of and 30 mm above the camera of an iPad Mini that is held upside down."""
    width, height, dx, dy = 121.3, 161.2, 60.7, 8.7
    x, y = (width - dx) + 20, (height + dy) - 30
    shape = {'W': 768, 'H': 1024, 'Orientation': 2, 'XPts': x * 768 / width, 'YPts': y * 1024 / height}
    gazecapture.write_session(src, [gazecapture.frame(XCam=2.0, YCam=3.0, **shape)], device='iPad Mini')


def _eyes(module):
    def write(src):
        for number, (right, up) in enumerate(module.LOOKS):
            name = number if module is unityeyes else f'f01_{number:02d}_0.1_0.2'
            module.eye(src if module is unityeyes else src / 'f01', name, right, up)

    return write


SMALL = ('--persons', '1', '--frames', '12', '--size', '96', '64')
CASES = {
    'synth': Case(lambda src: None, 'synth_close', SMALL, screen=True),
    'eve': Case(lambda src: eve.write_recording(src / 'train01/step001_image_x'), 'eve', screen=True),
    'eve basler': Case(
        lambda src: eve.write_recording(src / 'train01/step001_image_x', camera='basler'),
        'eve',
        ('--camera', 'basler'),
        screen=True,
    ),
    'gazecapture': Case(_dot, 'gazecapture', screen=True),
    'mpiifacegaze': Case(
        lambda src: mpiifacegaze.write_person(src, [mpiifacegaze.line()]), 'mpiifacegaze', screen=True
    ),
    'mpiifacegaze normalized': Case(
        lambda src: mpiifacegaze.write_patches(src / 'p00.mat', [(0.2, 0.1), (-0.2, 0.3), (-0.3, 0.1)]),
        'mpiifacegaze_patches',
        ('--format', 'normalized', '--frame', 'normalised_sr'),
    ),
    'ethxgaze': Case(ethxgaze.write_release, 'ethxgaze', ('--val-subjects', '24')),
    'ethxgaze raw': Case(
        lambda src: ethxgaze.write_raw(src, [ethxgaze.csv_line()]), 'ethxgaze', ('--format', 'raw', '--val-subjects')
    ),
    'gaze360': Case(_gaze360, 'gaze360'),
    'syntheseyes': Case(_eyes(syntheseyes), 'syntheseyes', ('--axes', 'opengl')),
    'unityeyes': Case(_eyes(unityeyes), 'unityeyes', ('--x-axis', 'right')),
    'columbia': Case(lambda src: columbia.portrait(src, '0001_2m_0P_10V_-15H.jpg'), 'columbia', ('--size', '72', '48')),
    'evg-json eve': _json(evg_json.eve, 'eve', '1070080200001.jpg'),
    'evg-json mpiifacegaze': _json(evg_json.mpii, 'mpiifacegaze', '00010005.jpg'),
    # Its dot is below the camera: down and to the right.
    'evg-json gazecapture': _json(evg_json.gazecapture, 'gazecapture', '000200017.jpg'),
    **{f'gazehub {kind}': _hub(kind) for kind in KINDS},
}


def read(name, tmp_path):
    """The index of a case, through the options of the command line."""
    case, key = CASES[name], name.split()[0]
    src = tmp_path / 'SRC'
    case.write(src)
    places = [] if key == 'synth' else ['--src', src / 'gaze.json' if key == 'evg-json' else src]
    places += {'gaze360': ['--lists', tmp_path / 'code'], 'evg-json': ['--images', src / 'pictures']}.get(key, [])
    parser, converter = ArgumentParser(), converter_class(key)
    converter.add_arguments(parser)
    words = [*places, *case.options]
    prepare(converter.from_args(parser.parse_args(list(map(str, words)))), tmp_path / 'out', jobs=1)
    return read_index(tmp_path / 'out')


def test_every_reader_has_a_case():
    assert {name.split()[0] for name in CASES} == set(CONVERTERS)


@pytest.mark.parametrize('name', CASES)
def test_up_and_to_the_right_is_positive(name, tmp_path):
    """Row 0 everywhere, but: the world's frames look where their targets are, as the eye sees it in the picture."""
    index = read(name, tmp_path)
    c = index.columns
    gaze = c['gaze']
    if name.endswith('gazecapture'):
        # No eyes: somebody straight in front of the camera.
        gaze = c['target_cam_mm'] - (0, 0, 400)
    up = np.ones(len(gaze))
    if name == 'synth':
        # On the screen in px against the face in px: higher than the eyes is up, as the user sees it.
        right = np.sign(c['face_origin_mm'][:, 0] - c['target_cam_mm'][:, 0])
        up = np.sign(c['face_origin_mm'][:, 1] - c['target_cam_mm'][:, 1])
        assert {-1, 1} == set(right)
    else:
        right = np.ones(len(gaze))
    if name == 'evg-json gazecapture':
        up = -up
    pitch, yaw = vector_to_pitchyaw(gaze[0])
    assert np.sign(pitch) == up[0] and np.sign(yaw) == right[0]
    assert not np.isclose(abs(pitch), abs(yaw), atol=1e-3)
    assert np.allclose(np.linalg.norm(c['gaze'], axis=1)[np.isfinite(c['gaze'][:, 0])], 1)


@pytest.mark.parametrize('name', [name for name, case in CASES.items() if case.screen])
def test_label_to_point_of_gaze_and_back(name, tmp_path):
    """1e-4 deg and 1e-3 mm, by each rule; the way back is written out here."""
    index = read(name, tmp_path)
    c = index.columns
    for row in range(len(index)):
        rig = index.rigs[c.text('rig', row)]
        target, px = c['target_cam_mm'][row], c['pog_screen_px'][row]
        eye = c['face_origin_mm'][row] if np.isfinite(c['face_origin_mm'][row]).all() else np.array([25.0, -40, 350])
        gaze = (target - eye) / np.linalg.norm(target - eye)
        if np.isfinite(c['gaze'][row]).all():
            assert angle_between_deg(c['gaze'][row], gaze) < 1e-4
        # Direction -> px -> 3-D point, by the pose.
        found = rig.ray_to_screen_px(eye, gaze)
        mm = found * np.divide(rig.screen_size_mm, rig.screen_size_px)
        point = (rig.screen_to_camera @ [*mm, 0, 1])[:3]
        assert np.linalg.norm(point - target) < 1e-3
        assert angle_between_deg(point - eye, gaze) < 1e-4
        assert np.linalg.norm((found - px) * np.divide(rig.screen_size_mm, rig.screen_size_px)) < 1e-3
        # Point of the plane -> direction or target.
        u, v = c['pog_plane_pose_mm'][row]
        if index.pose_rule == 'ray':
            assert angle_between_deg(np.array([-u, v, 0]) - eye, gaze) < 1e-4
        else:
            assert np.allclose((-u, v, 0), target, atol=1e-3)
        # Point of the plane -> px, by the offset rule, where the data set has one.
        if rig.screen_center_plane_mm is not None:
            corner = np.subtract(rig.screen_center_plane_mm, np.divide(rig.screen_size_mm, 2))
            again = c['pog_plane_offset_mm'][row] - corner
            assert np.linalg.norm(again - px * np.divide(rig.screen_size_mm, rig.screen_size_px)) < 1e-3


@pytest.mark.parametrize('name', CASES)
def test_its_base_config_gives_samples(name, tmp_path):
    """Of the split that the reader gave: a picture of the network's size and an encoded label."""
    index, case = read(name, tmp_path), CASES[name]
    model = 'ctdet_gaze' if case.screen else 'regression'
    bases = [
        f'{ROOT}/configs/_base_/{part}.py' for part in ('default_runtime', f'datasets/{case.base}', f'models/{model}')
    ]
    (tmp_path / 'cfg.py').write_text(f'_base_ = {bases}\n')
    options = [f'data_root={index.root}', 'plane_rule=pose' if name == 'eve basler' else 'plane_rule=offset']
    options += [] if case.screen else [f'gaze_frame={index.gaze_frame}']
    cfg = load_config(tmp_path / 'cfg.py', options)
    packed = DATASETS.build(cfg[f'{index.columns["split"][0]}_dataloader'].dataset)[0]
    width, height = InputFrame(**cfg.input_frame).input_size
    assert packed['inputs'].shape == (3, height, width) and packed['inputs'].dtype == np.uint8
    assert np.isfinite(packed['targets']['target_vp_px' if case.screen else 'target_pitchyaw_rad']).all()
    assert packed['data_samples'].gaze_frame == index.gaze_frame


@pytest.mark.parametrize('name', [name for name in CONVERTERS if name != 'synth'])
def test_every_reader_has_its_page(name):
    """Where it is, licence, tree, command, protocol and pitfalls; and its row in the table of signs."""
    text = (ROOT / 'docs/datasets.md').read_text(encoding='utf-8')
    section = re.search(rf'^### `{name}`.*?(?=^###? )', text, re.M | re.S)[0]
    command = rf'prepare_data\.py {name} '
    for part in (r'<http', '[Ll]icen[cs]e', r'^```\n.*^```$', command, r'^\* Protocol: ', r'^\* Pitfalls: '):
        assert re.search(part, section, re.M | re.S), part
    table = re.search(r'^### Orders, signs and frames.*?(?=^###? )', text, re.M | re.S)[0]
    assert re.search(rf'^\| `{name}`', table, re.M)
