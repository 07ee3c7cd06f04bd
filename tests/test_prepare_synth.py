"""The synthetic world as a data set, through the command line: labels, splits, and runs that are stopped half way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from evg.datasets.index import INDEX_NAME, read_index
from evg.datasets.prepare import STATE_DIR, prepare
from evg.datasets.synth import SynthConverter, SynthEveConverter, split_counts, split_of
from evg.errors import UserError
from evg.geometry import angle_between_deg
from evg.synthetic.world import SyntheticWorld

TOOL = Path(__file__).parents[1] / 'tools' / 'prepare_data.py'
SIZE = (96, 64)


def converter(persons=4, frames=5, geometry='close', counts=None, size=SIZE):
    return SynthConverter(geometry, size, persons, frames, 3, 95, split_counts(persons, counts))


def command(out, persons, frames, *more):
    size = [str(v) for v in SIZE]
    numbers = ['--persons', str(persons), '--frames', str(frames), '--seed', '3', '--size', *size]
    return [sys.executable, str(TOOL), 'synth', '--out', str(out), *numbers, *more]


@pytest.mark.parametrize(
    ('persons', 'wanted', 'counts'),
    [
        (1, None, (1, 0, 0)),
        (2, None, (1, 0, 1)),
        (3, None, (1, 1, 1)),
        (10, None, (8, 1, 1)),
        (250, None, (200, 25, 25)),
        (10, (5, 2, 3), (5, 2, 3)),
    ],
)
def test_split_sizes(persons, wanted, counts):
    assert split_counts(persons, wanted) == counts
    splits = [split_of(person, counts) for person in range(persons)]
    assert tuple(splits.count(name) for name in ('train', 'val', 'test')) == counts


def test_split_sizes_that_do_not_add_up():
    with pytest.raises(UserError, match='--split-persons 5 2 2 does not add up to --persons 10'):
        split_counts(10, (5, 2, 2))


@pytest.mark.parametrize('geometry', ['close', 'eve', 'phone', 'tablet'])
def test_labels_against_plain_arithmetic(tmp_path, geometry):
    prepare(converter(geometry=geometry, persons=3, frames=3), tmp_path, jobs=1)
    index = read_index(tmp_path)
    c, rig = index.columns, index.rigs[geometry]
    assert len(index) == 9 and (index.dataset, index.gaze_frame, index.pose_rule) == ('synth', 'camera', 'ray')
    assert c['sample_id'][4] == 'p0001/000001' and c['image'][4] == 'images/p0001/000001.jpg'
    assert {s: set(c['subject'][c['split'] == s]) for s in ('train', 'val', 'test')} == {
        'train': {'p0000'},
        'val': {'p0001'},
        'test': {'p0002'},
    }
    # Those of normalised patches, and the time of a recording, are missing.
    missing = ('time_s', 'head_pitchyaw_rad', 'norm_scale')
    for name in c:
        if c[name].dtype.kind == 'f' and name not in missing:
            assert np.isfinite(c[name]).all(), name
    mm = c['pog_screen_px'] * np.array(rig.screen_size_mm) / rig.screen_size_px
    corner = np.array(rig.screen_center_plane_mm) - np.array(rig.screen_size_mm) / 2
    assert np.allclose(c['pog_plane_offset_mm'], corner + mm)
    homogeneous = np.column_stack([mm, np.zeros(9), np.ones(9)])
    assert np.allclose(c['target_cam_mm'], (homogeneous @ rig.screen_to_camera.T)[:, :3])
    origin, target = c['face_origin_mm'], c['target_cam_mm']
    share = origin[:, 2] / (origin[:, 2] - target[:, 2])
    at_camera = origin + share[:, None] * (target - origin)
    assert np.allclose(at_camera[:, 2], 0, atol=1e-9)
    assert np.allclose(c['pog_plane_pose_mm'], at_camera[:, :2] * [-1, 1])
    assert np.allclose(c['gaze'], (target - origin) / np.linalg.norm(target - origin, axis=1, keepdims=True))
    rotation = c['norm_rotation'].reshape(-1, 3, 3)
    assert np.allclose(np.einsum('nij,nj->ni', rotation, origin)[:, :2], 0, atol=1e-9)
    for i in range(9):
        head = cv2.Rodrigues(c['head_rvec'][i])[0]
        assert abs((rotation[i] @ head[:, 0])[1]) < 1e-9
        # The face looks towards the camera's side, more or less where the eyes look.
        assert angle_between_deg(-head[:, 2], c['gaze'][i]) < 50
    assert np.allclose(c['head_tvec_mm'], (c['left_eye_mm'] + c['right_eye_mm']) / 2)
    assert (c['left_eye_mm'][:, 0] > c['right_eye_mm'][:, 0]).all()
    picture = cv2.imread(str(tmp_path / c['image'][8]))
    assert np.abs(picture.astype(int) - SyntheticWorld(geometry, SIZE, 3).frame(2, 2).image).mean() < 3


def test_the_command_line_is_checked(tmp_path):
    done = subprocess.run(
        command(tmp_path / 'a', 2, 2, '--format', 'eve', '--geometry', 'phone'),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == "error: --format eve needs --geometry eve (EVE's camera and screen), not phone\n"


def test_eve_layout(tmp_path, capsys):
    out = tmp_path / 'eve'
    prepare(SynthEveConverter((160, 90), 4, 95, 0, (2, 1, 1)), out, jobs=1, limit=4)
    assert capsys.readouterr().out.splitlines() == [
        f"{out}: 4 recordings in EVE's layout; next: python tools/prepare_data.py eve --src {out} --out DIR"
    ]
    steps = {str(p.parent.relative_to(out)) for p in out.rglob('webcam_c.mp4')}
    assert steps == {
        'train01/step008_image_synth-0000-000',
        'train02/step008_image_synth-0001-000',
        'val01/step008_image_synth-0002-000',
        'test01/step008_image_synth-0003-000',
    }
    labelled, withheld = out / 'val01/step008_image_synth-0002-000', out / 'test01/step008_image_synth-0003-000'
    ticks = [int(line) for line in (labelled / 'webcam_c.timestamps.txt').read_text().split()]
    assert len(ticks) == 90 and len(str(ticks[0])) == 19 and ticks[30] - ticks[0] == 10**9
    with h5py.File(labelled / 'webcam_c.h5') as full, h5py.File(withheld / 'webcam_c.h5') as less:
        assert np.allclose(full['inv_camera_transformation'][()] @ full['camera_transformation'][()], np.eye(4))
        shapes = {
            'facial_landmarks': (90, 68, 2),
            'head_rvec': (90, 3, 1),
            'head_tvec': (90, 3, 1),
            'left_p': (90,),
            'face_PoG_tobii': (90, 2),
            'right_W': (90, 3, 3),
            'left_h': (90, 2),
            'face_o': (90, 3),
        }
        for name, shape in shapes.items():
            assert full[name]['data'].shape == shape and full[name]['validity'].shape == (90,), name
        secret = {'left_p', 'right_p'} | {f'{p}_{k}_tobii' for p in ('face', 'left', 'right') for k in ('PoG', 'g')}
        assert set(full) - set(less) == secret
        # W maps the face centre's pixel to the middle of the 256 x 256 patch.
        good = int(np.argmax(full['face_o']['validity'][()]))
        origin = full['face_o']['data'][good]
        pixel = full['camera_matrix'][()] @ origin / origin[2]
        x, y, w = full['face_W']['data'][good] @ pixel
        assert np.allclose((x / w, y / w), 128)


def processes_of(parent):
    """Ids of the child processes; empty where the system does not tell."""
    file = Path(f'/proc/{parent}/task/{parent}/children')
    return [int(pid) for pid in file.read_text().split()] if file.exists() else []


def runs(pid):
    """Whether the process is there and no zombie."""
    file = Path(f'/proc/{pid}/cmdline')
    return file.exists() and file.read_bytes() != b''


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'nothing happens'
        time.sleep(0.005)


def test_a_killed_run_resumes_to_the_same_index(tmp_path):
    persons, frames = 40, 24  # enough that the fastest machine is still at it when the signals come
    prepare(converter(persons, frames), tmp_path / 'whole', jobs=1)
    out = tmp_path / 'out'
    parts = out / STATE_DIR / 'parts'

    def finished():
        return {p: p.stat().st_mtime_ns for p in parts.rglob('*.json')}

    def start(jobs):
        return subprocess.Popen(
            command(out, persons, frames, '--jobs', jobs),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A runner in the background hands on an ignored Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  one call, no locks
        )

    killed = start('2')
    wait_for(lambda: len(finished()) >= 2)
    workers = processes_of(killed.pid)
    killed.kill()
    # Not communicate(): workers that outlive their parent would hold the pipes open.
    killed.wait()
    try:
        wait_for(lambda: not any(map(runs, workers)), 20)
    finally:
        for pid in filter(runs, workers):
            os.kill(pid, signal.SIGKILL)
        killed.communicate()
    first = finished()
    assert 2 <= len(first) < persons
    assert not (out / INDEX_NAME).exists()

    stopped = start('2')
    wait_for(lambda: len(finished()) > len(first))
    # As a terminal does it: to the workers, too.
    os.killpg(stopped.pid, signal.SIGINT)
    _, text = stopped.communicate(timeout=30)
    assert stopped.returncode == 130
    assert f'of {persons} parts are finished; the same command goes on from there' in text
    assert 'Traceback' not in text
    second = finished()
    assert len(second) < persons

    done = start('1')
    out_text, _ = done.communicate(timeout=120)
    assert done.returncode == 0
    assert f'{len(second)} of {persons} parts are finished' in out_text
    final = finished()
    assert all(final[path] == second[path] for path in second) and all(second[path] == first[path] for path in first)
    one, other = (pq.read_table(folder / INDEX_NAME) for folder in (tmp_path / 'whole', out))
    assert one.equals(other, check_metadata=True)
    for name in one['image'].to_pylist():
        assert (out / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()


def test_other_settings_are_refused(tmp_path):
    prepare(converter(), tmp_path, jobs=1)
    with pytest.raises(UserError, match=r'\(frames: 5 then, 6 now\)'):
        prepare(converter(frames=6), tmp_path, jobs=1)
