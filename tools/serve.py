"""Serve gaze over HTTP with a page to try it: python tools/serve.py [MODEL] [--host HOST --port PORT --token TOKEN]."""

import argparse
import functools
import os

from evg.errors import needs, run_tool
from evg.inference import Camera, Screen


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description='Serve gaze over HTTP, a stream and a page; see docs/server.md.')
    parser.add_argument('model', nargs='?', default='landmark', help="'landmark', a model folder, or a checkpoint")
    parser.add_argument('--host', default='127.0.0.1', help='address; other than loopback needs a token and TLS')
    parser.add_argument('--port', type=int, default=8000, help='0 takes a free one')
    parser.add_argument('--token', help='what clients must know (default: EVG_TOKEN of the environment)')
    parser.add_argument('--certfile', help='TLS certificate, PEM')
    parser.add_argument('--keyfile', help='TLS key, PEM')
    parser.add_argument('--screen', help='screen.json (default: a laptop of 15.6 inches)')
    parser.add_argument('--camera', help='camera.json (default: a horizontal field of view of 60 degrees)')
    parser.add_argument('--face-model', help='model file of the face detector (default: looked up)')
    parser.add_argument('--backend', choices=['auto', 'onnxruntime', 'acl'], default='auto', help='of a model folder')
    parser.add_argument('--workers', type=int, default=1, help='processes with a model each')
    parser.add_argument('--max-faces', type=int, default=1, help='how many faces of a picture are answered')
    parser.add_argument('--min-score', type=float, default=0.0, help='smallest score of a face, 0 to 1; 0 keeps all')
    return parser.parse_args()


@run_tool
def main() -> None:
    """Build the application and serve it."""
    args = parse_args()
    with needs('serve'):
        from evg.serve.app import create_app  # noqa: PLC0415
        from evg.serve.server import run  # noqa: PLC0415
        from evg.serve.settings import Settings  # noqa: PLC0415
        from evg.serve.worker import load_predictor  # noqa: PLC0415
    token = args.token or os.environ.get('EVG_TOKEN') or None
    settings = Settings(token=token, workers=args.workers, min_score=args.min_score)
    screen = Screen.load(args.screen) if args.screen else Screen.from_diagonal()
    camera = Camera.load(args.camera) if args.camera else None
    # Workers share the cores out among them.
    threads = None if args.workers == 1 else max(1, (os.cpu_count() or 1) // args.workers)
    factory = functools.partial(
        load_predictor, args.model, screen, camera, args.face_model, args.backend, threads, args.max_faces
    )
    run(create_app(factory, settings), settings, args.host, args.port, args.certfile, args.keyfile)


if __name__ == '__main__':
    main()
