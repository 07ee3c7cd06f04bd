"""How well the model "landmark" does on faces of the synthetic world: python benchmarks/landmark_model.py [--json F].

First, per geometry: how many faces MediaPipe finds, where head and irises are put, and the error of the gaze as it
comes, in frames that each have a point, a head pose and a light of their own. Blinks are left out.

Then as on the live page: each person holds the head nearly still under one light (it jitters by 2 mm and 1 degree, and
follows the point a little), and looks at the points of a calibration and at the 15 points of the accuracy test, 5
frames each.

The synthetic world is no measure for real people.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from evg.geometry import angle_between_deg
from evg.inference import Camera, GazePredictor
from evg.inference.accuracy import fifteen_points
from evg.inference.calibration import METHODS, CalibrationSample, fit_calibration, target_points
from evg.inference.sources import RigScreen
from evg.synthetic import SyntheticWorld
from evg.synthetic.persons import make_person
from evg.synthetic.renderer import sample_look
from evg.synthetic.scene import SETUPS, face_towards, sample_state

WORLDS = (('close', (640, 480)), ('eve', (640, 360)))
POINTS, FRAMES = (4, 9), 5


def frame_figures(world: SyntheticWorld, predictor: GazePredictor, person: int, frames: int) -> list[dict[str, float]]:
    """Figures of independent frames of one person."""
    screen, rows = RigScreen(world.rig), []
    per_px = np.divide(world.rig.screen_size_mm, world.rig.screen_size_px)
    for shot in (world.frame(person, i) for i in range(frames)):
        if shot.blink:
            continue
        result = predictor.predict(shot.image, screen=screen)[0]
        if not result.found or result.screen_px is None:
            rows.append({'found': 0.0})
            continue
        between = (shot.left_eye_mm + shot.right_eye_mm) / 2
        irises = result.landmarks_px[[468, 473]] - shot.pupil_landmarks_px.mean(axis=1)
        row = {
            'found': 1.0,
            'face_px': result.face_box_px[2] - result.face_box_px[0],
            'iris_mm': np.linalg.norm(irises, axis=1).mean() * between[2] / world.rig.camera_matrix[0, 0],
            'distance_mm': abs(result.origin_mm[2] - between[2]),
            'head_deg': angle_between_deg(result.head_rotation[:, 0], shot.head_rotation[:, 0]),
            'gaze_deg': angle_between_deg(result.gaze, shot.target_cam_mm - between),
            'point_mm': np.linalg.norm((result.screen_px - shot.pog_px) * per_px),
        }
        rows.append({name: float(value) for name, value in row.items()})
    return rows


def sitting(world: SyntheticWorld, predictor: GazePredictor, person: int) -> dict[str, float]:
    """Mean error of one person's fifteen points, mm, by calibration."""
    screen, setup = RigScreen(world.rig), SETUPS[world.geometry]
    per_px = np.divide(world.rig.screen_size_mm, world.rig.screen_size_px)
    rng = np.random.default_rng([world.seed, person])
    subject, look = make_person(world.seed, person), sample_look(rng)
    seat = sample_state(world.rig, setup, subject, rng)

    def results(point):
        towards = face_towards(world.rig, seat.head_mm, point, 0.2, subject.posture[1][:2], np.zeros(2))
        for _ in range(FRAMES):
            head, turn = seat.head_mm + rng.normal(0, 2, 3), towards + np.radians(rng.normal(0, 1, 2))
            state = replace(seat, target_px=point, head_mm=head, head_pitchyaw_rad=turn, openness=1.0)
            yield predictor.predict(world._shoot(subject, 0, state, look, rng).image, screen=screen)[0]

    shown = {n: [CalibrationSample(p, r) for p in target_points(n, screen) for r in results(p)] for n in POINTS}
    test = [(point, list(results(point))) for point in fifteen_points(screen)]

    def error(apply):
        means = [np.mean([apply(result).screen_px for result in seen], axis=0) for _, seen in test]
        return float(np.linalg.norm((np.array(means) - [point for point, _ in test]) * per_px, axis=1).mean())

    errors = {'none': error(lambda result: result)}
    for n, samples in shown.items():
        errors.update({f'{name}, {n} points': error(fit_calibration(samples, screen, name).apply) for name in METHODS})
    return errors


def means(rows: list[dict[str, float]]) -> dict[str, float]:
    """Of each figure, over the rows that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: round(float(np.mean([row[name] for row in rows if name in row])), 2) for name in names}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--persons', type=int, default=10)
    parser.add_argument('--frames', type=int, default=30, help='of each person, in the first part')
    parser.add_argument('--seed', type=int, default=0, help='of the world')
    parser.add_argument('--json', help='write the figures there')
    args = parser.parse_args()
    report = {}
    for geometry, size in WORLDS:
        world, name = SyntheticWorld(geometry, size, args.seed), f'{geometry} {size[0]} x {size[1]}'
        camera = Camera(world.rig.camera_matrix, size)
        with GazePredictor('landmark', RigScreen(world.rig), camera=camera) as predictor:
            persons = range(args.persons)
            report[name] = means([row for p in persons for row in frame_figures(world, predictor, p, args.frames)])
            report[f'{name}, sitting still: mm'] = means([sitting(world, predictor, p) for p in persons])
        for part in (name, f'{name}, sitting still: mm'):
            print(
                part, *(f'  {column:24s} {value:8.2f}' for column, value in report[part].items()), sep='\n', flush=True
            )
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
