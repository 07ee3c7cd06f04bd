"""tools/accuracy_test.py on a small synthetic video, with a real network (untrained: its answers are what they are)."""

import json

import cv2
import numpy as np
import pytest
from conftest import run_tool
from model_folders import model_folder, network

from evg.inference import GazePredictor, Screen
from evg.inference.calibration import Calibration
from evg.inference.calibration_methods import Translation
from evg.synthetic import SyntheticWorld

SCREEN = Screen((1920, 1080), (553, 311), (276.5, -10, 0))
ROWS = ['t_start_ms,t_end_ms,x_px,y_px', '0,250,480,270', '300,600,1440,810']


@pytest.fixture(scope='module')
def setup(tmp_path_factory):
    """A folder with a model, a video of 20 frames per second, a script and a screen; and the model's own answers."""
    folder = tmp_path_factory.mktemp('accuracy')
    model_folder(folder / 'model', *network())
    video = cv2.VideoWriter(str(folder / 'v.avi'), cv2.VideoWriter.fourcc(*'MJPG'), 20, (160, 96))
    for frame in SyntheticWorld('close', (160, 96)).sequence(3, 0, 12, 20):
        video.write(frame.image)
    video.release()
    (folder / 'script.csv').write_text('\n'.join(ROWS))
    SCREEN.save(folder / 'screen.json')
    reader, frames = cv2.VideoCapture(str(folder / 'v.avi')), []
    while (read := reader.read())[0]:
        frames.append(read[1])
    with GazePredictor(folder / 'model', SCREEN) as predictor:
        answers = np.array([faces[0].screen_px for faces in predictor.predict_batch(frames)])
        identity = predictor.identity
    return folder, answers, identity


def run(folder, *more, script='script.csv', code=0):
    given = ['--targets', folder / script, '--screen', folder / 'screen.json', '--model', folder / 'model']
    return run_tool('accuracy_test', folder / 'v.avi', *given, '--out', folder / 'out', *more, code=code)


def test_the_tool_measures_the_frames_of_the_script(setup):
    folder, answers, identity = setup
    shift = Calibration(Translation(np.array([30.0, -20.0])), SCREEN, identity, n_points=4)
    shift.save(folder / 'me.json')
    for more, offset in (((), (0, 0)), (('--calibration', folder / 'me.json'), (30, -20))):
        done = run(folder, *more)
        report = json.loads((folder / 'out' / 'accuracy.json').read_text())
        first, second = report['points']
        assert (first['n'], second['n'], first['target_px'], second['target_px']) == (5, 6, [480, 270], [1440, 810])
        # Stretches of [0, 250) and [300, 600) ms at 50 ms a frame.
        np.testing.assert_allclose(first['mean_px'], answers[:5].mean(axis=0) + offset, atol=0.5)
        np.testing.assert_allclose(second['mean_px'], answers[6:12].mean(axis=0) + offset, atol=0.5)
        assert report['facts']['model'] == 'nano_synth_160'
        assert report['facts']['calibration'] == ('translation, 4 points' if more else 'none')
        assert report['latency_ms']['network']['mean'] > 0
        assert f'mean error {report["mean"]["mm"]:.1f} mm' in done.stdout
        assert '<svg' in (folder / 'out' / 'accuracy.html').read_text(encoding='utf-8')


def test_the_tool_says_what_does_not_fit(setup):
    folder, _, _ = setup
    Calibration(Translation(np.zeros(2)), SCREEN, 'another model').save(folder / 'other.json')
    done = run(folder, '--calibration', folder / 'other.json', code=2)
    assert done.stderr.startswith('error: this calibration is for another model (another model, not nano_synth_160-')
    (folder / 'long.csv').write_text('\n'.join([*ROWS, '700,800,1,1']))
    assert 'no frame from 700 to 800 ms; its last one is at 550 ms' in run(folder, script='long.csv', code=2).stderr
