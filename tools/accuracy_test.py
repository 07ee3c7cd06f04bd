"""The accuracy test of a recorded video: python tools/accuracy_test.py VIDEO --targets script.csv --screen screen.json.

The script says when the person looked where: CSV with the header t_start_ms,t_end_ms,x_px,y_px, or a JSON list of such
objects. The same video, script and model give the same report.
"""

import argparse
from pathlib import Path

from evg.errors import needs, run_tool

with needs('face'):
    from evg.files import atomic_write
    from evg.inference import Camera, GazePredictor, Screen
    from evg.inference.accuracy_html import accuracy_html
    from evg.inference.accuracy_script import read_script, run_script, video_frames
    from evg.inference.calibration import Calibration
    from evg.inference.json_files import write_json


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('video', help='video file')
    parser.add_argument('--targets', required=True, help='script of the points, CSV or JSON')
    parser.add_argument('--screen', required=True, help='screen.json, made by tools/make_screen.py')
    parser.add_argument('--model', default='landmark', help="'landmark', a model folder, or a checkpoint")
    parser.add_argument('--face-model', help='file of the face front end (default: looked up where one is needed)')
    parser.add_argument('--camera', help='camera.json (default: a field of view of 60 degrees)')
    parser.add_argument('--calibration', help='calibration file, applied to every frame')
    parser.add_argument('--device', default='cpu', help="of a checkpoint: 'cpu' or 'cuda'")
    parser.add_argument('--out', default='accuracy', help='folder of accuracy.json and accuracy.html')
    return parser.parse_args()


@run_tool
def main() -> None:
    """Predict, measure, write, print."""
    args = parse_args()
    script, screen = read_script(args.targets), Screen.load(args.screen)
    camera = Camera.load(args.camera) if args.camera else None
    calibration = Calibration.load(args.calibration) if args.calibration else None
    predictor = GazePredictor(args.model, screen, device=args.device, camera=camera, face=args.face_model)
    try:
        if calibration:
            calibration.check(screen, predictor.identity, predictor.camera_identity)
        test = run_script(predictor, video_frames(args.video), script, screen, calibration)
    finally:
        predictor.close()
    facts = {'model': predictor.name, 'video': Path(args.video).name, 'script': Path(args.targets).name}
    facts['calibration'] = f'{calibration.method}, {calibration.n_points} points' if calibration else 'none'
    report = test.report(facts)
    out = Path(args.out)
    write_json(out / 'accuracy.json', report)
    with atomic_write(out / 'accuracy.html', 'w') as file:
        file.write(accuracy_html(report))
    for number, point in enumerate(report['points'], 1):
        error = point['error']
        told = f'{error["mm"]:7.1f} mm  {_deg(error["deg"])}' if error else 'no gaze'
        x, y = point['target_px']
        print(f'{number:3d}  ({x:6.0f}, {y:6.0f})  {told}  {point["n_valid"]} of {point["n"]} samples')
    mean = report['mean']
    if mean['mm'] is not None:
        print(f'mean error {mean["mm"]:.1f} mm, {_deg(mean["deg"])}; data loss {100 * mean["data_loss"]:.1f} %')
    print(f'report: {out / "accuracy.html"}')


def _deg(value: float | None) -> str:
    return '- deg' if value is None else f'{value:.2f} deg'


if __name__ == '__main__':
    main()
