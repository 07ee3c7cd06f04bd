"""See the gaze: python tools/demo.py IMAGE|VIDEO|DIR|camera:N|DATASET [--model MODEL] [--screen screen.json].

In a window: i and n switch the arrows on frame and normalised face, v landmarks, f the speed; q ends, and any other key
goes on to the next picture. Without a display (or with --headless) an annotated video or pictures and a table of
results are written. A prepared data set (a folder with index.parquet) is shown with the truth in red beside the
prediction in yellow.
"""

import argparse
from pathlib import Path

from evg.errors import UserError, needs, run_tool

with needs('face'):
    from evg.inference import Camera, GazePredictor, Screen
    from evg.inference.calibration import Calibration
    from evg.inference.demo import check_frames, has_display, run_demo
    from evg.inference.draw import Overlay
    from evg.inference.face import load_front_end
    from evg.inference.filters import Gate
    from evg.inference.records import TABLES
    from evg.inference.sources import open_source


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('source', help='picture, folder of pictures, video, camera:N, or folder of a prepared data set')
    add('--model', default='landmark', help="'landmark' (default), a model folder, or a checkpoint")
    add('--screen', help='screen.json, made by tools/make_screen.py (default: a 15.6 inch laptop)')
    add('--camera', help='camera.json (default: a field of view of 60 degrees)')
    add('--calibration', help='calibration file, applied to every result; not for a data set')
    add('--min-score', type=float, default=0.0, help='0 to 1: a lower score counts as not seen (default: 0)')
    add('--face-model', help='model file of the face front end (default: looked up, see docs/predictor.md)')
    add('--faces', action='store_true', help='find faces for a model of whole frames too: adds the gaze vector')
    add('--max-faces', type=int, default=1, help='how many faces to look at')
    add('--device', default='cpu', help="'cpu' or 'cuda'")
    add('--backend', default='auto', help="of a model folder: 'auto', 'onnxruntime' or 'acl'")
    add('--split', help='of a data set (default: all)')
    add('--count', type=int, help='so many frames; of a data set evenly spread')
    add('--out', help='folder of the results (default: demo_out without a window, none with one)')
    add('--table', choices=TABLES, default='csv', help='kind of the table of results')
    add('--headless', action='store_true', help='no window')
    add('--verbose', action='store_true', help='draw landmarks from the start (key v)')
    return parser.parse_args()


@run_tool
def main() -> None:
    """Open, predict, show, write."""
    args = parse_args()
    if args.count is not None and args.count < 1:
        raise UserError(f'--count must be at least 1, not {args.count}')
    if not 0 <= args.min_score <= 1:
        raise UserError(f'--min-score must be from 0 to 1, not {args.min_score:g}')
    screen = Screen.load(args.screen) if args.screen else Screen.from_diagonal()
    camera = Camera.load(args.camera) if args.camera else None
    calibration = Calibration.load(args.calibration) if args.calibration else None
    window = not args.headless and has_display()
    out = Path(args.out) if args.out else None if window else Path('demo_out')
    source = open_source(args.source, args.split, args.count)
    if calibration and source.kind == 'dataset':
        raise UserError(
            '--calibration belongs to one screen and camera, and a data set has its own: leave --calibration out, or '
            'give pictures, a video or camera:N'
        )
    face = load_front_end(args.face_model, args.max_faces) if args.faces or args.face_model else None
    with GazePredictor(args.model, screen, args.device, args.backend, camera, face, args.max_faces) as predictor:
        if calibration:
            calibration.check(screen, predictor.identity, predictor.camera_identity)
        overlay = Overlay(landmarks=args.verbose)
        gate = Gate(args.min_score, min_eyes_open=0)
        table = run_demo(source, predictor, overlay, out, args.table, window, calibration, gate)
    print(check_frames(table))
    if out:
        print(f'results: {out}')


if __name__ == '__main__':
    main()
