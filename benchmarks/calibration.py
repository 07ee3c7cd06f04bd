"""What calibration brings on persons that the model does not know: python benchmarks/calibration.py [--checkpoint F].

By default the estimator is simulated: it sees the eyes of the synthetic world's persons exactly but for
noise, and takes everybody's kappa for the mean one. Each person looks at the points of a calibration and then at
other points. With --checkpoint a network answers, one trained on the synthetic world's geometry `close`: each person
sits through a clip under one light; the fixations of one half of it that lie nearest to the points of a calibration
are what it is fitted to, the fixations of the other half what it is measured on, and the other way round. With
--predictions (a file of `tools/test.py --preds` on that geometry) the same is done with single frames that have
nothing in common but the person.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from evg.errors import UserError, run_tool
from evg.evaluation.functional import mean_ci95
from evg.evaluation.report import write_json
from evg.geometry import pitchyaw_to_vector, vector_to_pitchyaw
from evg.inference import GazePredictor, Screen
from evg.inference.accuracy_measures import angles_deg, distances_mm
from evg.inference.calibration import CalibrationSample, fit_calibration, target_points
from evg.inference.result import GazeResult
from evg.synthetic.persons import Person, make_person
from evg.synthetic.scene import SETUPS, eye_rotation, face_towards, head_rotation, sample_state
from evg.synthetic.world import SyntheticWorld

METHODS = ('translation', 'affine', 'ridge', 'kappa')
POINTS = (4, 5, 9, 13)
ANYWHERE = 20  # fixations wherever they are
CLIP_FRAMES, CLIP_FPS = 400, 10.0
SIZE_PX, SIZE_MM = SETUPS['eve'].screen_px, SETUPS['eve'].screen_mm
MEAN_KAPPA_RAD = np.radians([0.5, 4.0])  # pitch, nasal yaw: the mean of evg/synthetic/persons.py
Errors = dict[tuple[int, str], list[tuple[float, float]]]  # (points, method): mm and deg of each person


def result(point_px, origin_mm, screen: Screen, head=None) -> GazeResult:
    """What a predictor would say of a point of gaze."""
    gaze = screen.px_to_camera(point_px) - origin_mm
    gaze /= np.linalg.norm(gaze)
    return GazeResult(True, screen_px=point_px, gaze=gaze, origin_mm=origin_mm, head_rotation=head, score=1.0)


class SimulatedEstimator:
    """Truth without the person's own kappa, with noise.

    Args:
        screen: the screen; the camera above it.
        noise_deg: standard deviation of pitch and yaw from frame to frame.
        wobble_deg: the same from fixation to fixation, what no averaging removes.
        gain: distance of the answer from the screen's middle per distance of the truth; a network that is unsure of
            what it sees answers nearer to the middle.
    """

    def __init__(self, screen: Screen, noise_deg: float, wobble_deg: float, gain: float):
        self.screen, self.rig = screen, screen.rig((480, 270))
        self.noise_rad, self.wobble_rad, self.gain = np.radians(noise_deg), np.radians(wobble_deg), gain

    def fixation(self, person: Person, target_px, frames: int, rng: np.random.Generator) -> list[CalibrationSample]:
        """Some frames in which a person looks at a point."""
        state = sample_state(self.rig, SETUPS['eve'], person, rng)
        noise = np.radians(rng.normal(0, [3.0, 3.5]))
        aim = face_towards(self.rig, state.head_mm, target_px, person.head_share, person.posture[1][:2], noise)
        rotation = head_rotation(aim, state.head_roll_rad)
        wobble = rng.normal(0, self.wobble_rad, 2)
        samples = []
        for _ in range(frames):
            origin = state.head_mm + rng.normal(0, 1.5, 3)
            points = [self._eye(person, side, rotation, origin, target_px) for side in (-1, 1)]
            middle = np.divide(SIZE_PX, 2)
            point = middle + self.gain * (np.mean(points, axis=0) - middle)
            answer = result(point, origin, self.screen, rotation)
            turned = vector_to_pitchyaw(answer.gaze) + wobble + rng.normal(0, self.noise_rad, 2)
            gaze = pitchyaw_to_vector(turned)
            answer = replace(answer, gaze=gaze, screen_px=self.screen.ray_to_px(origin, gaze))
            samples.append(CalibrationSample(np.asarray(target_px), answer))
        return samples

    def _eye(self, person: Person, side: int, rotation, origin, target_px):
        """Where one eye seems to look, px: its optical axis is known, its kappa is taken for the mean one."""
        center = origin + rotation @ np.array([side * person.ipd_mm / 2, 0, 0])
        sight = self.screen.px_to_camera(target_px) - center
        kappa = person.kappa_right_rad if side < 0 else person.kappa_left_rad
        axes = rotation @ eye_rotation(rotation.T @ sight / np.linalg.norm(sight), kappa)
        return self.screen.ray_to_px(center, axes @ pitchyaw_to_vector(MEAN_KAPPA_RAD * (1, side)))


def measure(samples: list[CalibrationSample], answers: list[GazeResult], screen: Screen) -> tuple[float, float]:
    """Distance of the mean answer from the point, mean over the points: mm, deg."""
    points: dict[tuple, list] = {}
    for answer, sample in zip(answers, samples, strict=True):
        if answer.screen_px is not None:
            points.setdefault(tuple(sample.target_px), []).append((answer.screen_px, sample.result.origin_mm))
    errors = []
    for target, seen in points.items():
        mean, origin = (np.mean(column, axis=0) for column in zip(*seen, strict=True))
        errors.append((distances_mm(screen, mean, target), angles_deg(screen, mean, target, origin)))
    mm, deg = np.mean(errors, axis=0)
    return float(mm), float(deg)


def compare(sets: Iterator[tuple[int, list, list]], screen: Screen, methods: tuple[str, ...]) -> Errors:
    """Fit each method to each set and measure it: {(points, method): [(mm, deg), ...]}; 0 points is before."""
    errors: Errors = {}
    for n, fitted, tested in sets:
        errors.setdefault((n, 'none'), []).append(measure(tested, [s.result for s in tested], screen))
        for method in methods:
            calibration = fit_calibration(fitted, screen, method)
            answers = [calibration.apply(s.result) for s in tested]
            errors.setdefault((n, method), []).append(measure(tested, answers, screen))
    return errors


def simulated(args: argparse.Namespace, screen: Screen, gain: float) -> Iterator[tuple[int, list, list]]:
    """(points, calibration, test) of each person."""
    estimator = SimulatedEstimator(screen, args.noise_deg, args.wobble_deg, gain)
    for number in range(args.first_person, args.first_person + args.persons):
        rng = np.random.default_rng([args.seed, 0xCA11B, number])
        person = make_person(args.seed, number)
        targets = rng.uniform(0.05, 0.95, (30, 2)) * SIZE_PX
        tested = [s for target in targets for s in estimator.fixation(person, target, 15, rng)]
        for n in POINTS:
            yield n, [s for p in target_points(n, screen) for s in estimator.fixation(person, p, 15, rng)], tested


def recorded(path: str, screen: Screen, repeats: int, seed: int) -> Iterator[tuple[int, list, list]]:
    """(points, calibration, test) of each person and each random half of their frames."""
    table = pq.read_table(path)
    if set(table['plane_rule'].to_pylist()) != {'offset'}:
        raise UserError(f"{path}: predictions on the synthetic geometry 'close' with plane_rule 'offset' are needed")
    columns = {name: np.array(table[name].to_pylist()) for name in ('pred_screen_px', 'gt_screen_px', 'gt_origin_mm')}
    subjects = np.array(table['subject'].to_pylist())
    for number, subject in enumerate(np.unique(subjects)):
        samples = [
            CalibrationSample(truth, result(answer, origin, screen))
            for answer, truth, origin in zip(*(column[subjects == subject] for column in columns.values()), strict=True)
        ]
        for repeat in range(repeats):
            order = np.random.default_rng([seed, number, repeat]).permutation(len(samples))
            pool, tested = ([[samples[i]] for i in half] for half in np.array_split(order, 2))
            yield from nearest(pool, tested, screen)


def sessions(args: argparse.Namespace, screen: Screen) -> Iterator[tuple[int, list, list]]:
    """(points, calibration, test) of each person and each half of their clip."""
    world = SyntheticWorld('close', seed=args.seed)
    with GazePredictor(args.checkpoint, screen) as predictor:
        for person in range(args.first_person, args.first_person + args.persons):
            fixations: list[list[CalibrationSample]] = []
            for frame in world.sequence(person, 0, CLIP_FRAMES, CLIP_FPS):
                (seen,) = predictor.predict(frame.image)
                sample = CalibrationSample(frame.pog_px, result(seen.screen_px, frame.face_origin_mm, screen))
                if not fixations or not np.array_equal(fixations[-1][0].target_px, frame.pog_px):
                    fixations.append([])
                fixations[-1].append(sample)
            fixations = [samples for samples in fixations if len(samples) >= 3]  # no saccades, no pursuits
            half = len(fixations) // 2
            yield from nearest(fixations[:half], fixations[half:], screen)
            yield from nearest(fixations[half:], fixations[:half], screen)


def nearest(pool: list[list], tested: list[list], screen: Screen) -> Iterator[tuple[int, list, list]]:
    """Calibrations by those fixations of a pool that lie nearest to the points of each grid, and by 20 anywhere."""
    flat = [sample for samples in tested for sample in samples]
    for n in POINTS:
        free, fitted = list(pool), []
        for point in target_points(n, screen):
            distance = [np.linalg.norm(samples[0].target_px - point) for samples in free]
            fitted += free.pop(int(np.argmin(distance)))
        yield n, fitted, flat
    yield ANYWHERE, [sample for samples in pool[:ANYWHERE] for sample in samples], flat


def summarise(errors: Errors, per_person: int) -> list[dict]:
    """One row for each (points, method): means over persons with 95 % intervals."""
    rows = []
    for (n, method), values in errors.items():
        persons = np.reshape(values, (-1, per_person, 2)).mean(axis=1)
        (mm, mm_ci), (deg, deg_ci) = (mean_ci95(column) for column in persons.T)
        rows.append({'points': n, 'method': method, 'mm': mm, 'mm_ci95': mm_ci, 'deg': deg, 'deg_ci95': deg_ci})
    return rows


def markdown(rows: list[dict], methods: tuple[str, ...]) -> str:
    """Error in mm (degrees), a row for each number of points."""
    cells = {(row['points'], row['method']): f'{row["mm"]:.1f} ({row["deg"]:.2f})' for row in rows}
    names = ('none', *methods)
    lines = ['| points | before | ' + ' | '.join(methods) + ' |', '|---:|' + '---:|' * len(names)]
    for n in dict.fromkeys(row['points'] for row in rows):
        lines.append(f'| {_name(n)} | ' + ' | '.join(cells[n, name] for name in names) + ' |')
    return '\n'.join(lines)


def _name(points: int) -> str:
    return f'{points} anywhere' if points == ANYWHERE else str(points)


def chart(panels: dict[str, list[dict]], path: str) -> None:
    """Error by number of points, a panel for each set of rows, as a PNG."""
    figure = Figure((4.4 * len(panels), 3.8), dpi=110, layout='constrained')
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, rows) in zip(axes, panels.items(), strict=True):
        ticks = list(dict.fromkeys(row['points'] for row in rows))
        methods = list(dict.fromkeys(row['method'] for row in rows if row['method'] != 'none'))
        axis.axhline(rows[0]['mm'], color='#5d666f', linestyle='--', label='before')
        for i, method in enumerate(methods):
            line = [row for row in rows if row['method'] == method]
            # Side by side: translation and kappa often agree to a line's width.
            x = np.arange(len(ticks)) + 0.13 * (i - (len(methods) - 1) / 2)
            axis.errorbar(x, [r['mm'] for r in line], [r['mm_ci95'] for r in line], fmt='o', markersize=4, label=method)
        axis.set(title=title, xlabel='points', xticks=range(len(ticks)), xticklabels=[_name(n) for n in ticks])
        axis.set_ylim(0, 1.4 * rows[0]['mm'])
        axis.grid(color='#dfe3e7', linewidth=0.6)
    axes[0].set_ylabel('mean error on other points, mm')
    axes[0].legend(frameon=False, fontsize=9, ncols=2, loc='upper right')
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(path)


@run_tool
def main() -> None:
    """Measure, print tables, write JSON and a chart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--checkpoint', help='a network to measure')
    parser.add_argument('--predictions', help='Parquet file of tools/test.py --preds')
    parser.add_argument('--persons', type=int, default=40, help='how many; with --predictions all')
    parser.add_argument('--first-person', type=int, default=0, help='number of the first one')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--noise-deg', type=float, default=1.0, help='simulated noise from frame to frame')
    parser.add_argument('--wobble-deg', type=float, default=0.5, help='simulated noise from fixation to fixation')
    parser.add_argument('--gains', type=float, nargs='+', default=[1.0, 0.8], help='one table for each')
    parser.add_argument('--repeats', type=int, default=4, help='random halves of recorded frames')
    parser.add_argument('--json', help='write the figures to this file')
    parser.add_argument('--chart', help='write a chart to this PNG file')
    args = parser.parse_args()
    above = Screen(SIZE_PX, SIZE_MM, (SIZE_MM[0] / 2, -15, 0), tilt_deg=-3)
    panels = {}
    # The offset rule: the camera is taken to sit in the middle of the upper edge, in the screen's plane.
    screen = Screen(SIZE_PX, SIZE_MM, (SIZE_MM[0] / 2, 0, 0))
    if args.checkpoint:
        panels['network, one sitting'] = summarise(compare(sessions(args, screen), screen, METHODS), 2)
    if args.predictions:
        errors = compare(recorded(args.predictions, screen, args.repeats, args.seed), screen, METHODS)
        panels['network, single frames'] = summarise(errors, args.repeats)
    if not panels:
        for gain in args.gains:
            errors = compare(simulated(args, above, gain), above, METHODS)
            panels[f'simulated, gain {gain:g}'] = summarise(errors, 1)
    for title, rows in panels.items():
        print(f'\n{title}: mean error, mm (deg)\n\n{markdown(rows, METHODS)}')
    if args.json:
        write_json(args.json, panels)
    if args.chart:
        chart(panels, args.chart)


if __name__ == '__main__':
    main()
