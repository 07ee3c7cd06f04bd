"""Describe a screen: python tools/make_screen.py [screen.json] --display | --width-mm 344 | --diagonal 15.6.

Measure with a tape: the width of the picture area (not of the frame around it), and how far the camera's lens is above
its upper edge. The camera is taken to be in the middle and level unless --camera-mm and --tilt say otherwise.
"""

import argparse

from evg.errors import UserError, run_tool
from evg.inference import Screen
from evg.inference.screen import CAMERA_ABOVE_MM


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('out', nargs='?', default='screen.json', help='the file (default: screen.json)')
    how = parser.add_mutually_exclusive_group()
    how.add_argument('--display', action='store_true', help='ask this computer')
    how.add_argument('--width-mm', type=float, help='width of the picture area; pixels are taken to be square')
    how.add_argument('--size-mm', type=float, nargs=2, metavar=('W', 'H'), help='width and height of the picture area')
    how.add_argument('--diagonal', type=float, metavar='INCHES', help='diagonal of the picture area')
    add('--size-px', type=float, nargs=2, metavar=('W', 'H'), help='resolution (default: 1920 1080)')
    add(
        '--camera-above-mm',
        type=float,
        default=CAMERA_ABOVE_MM,
        help='lens above the upper edge (default: %(default)g)',
    )
    add(
        '--camera-mm', type=float, nargs=3, metavar=('X', 'Y', 'Z'),
        help='place of the lens from the upper left corner: right, down, away from the user',
    )  # fmt: skip
    add('--tilt', type=float, default=0.0, help='degrees that the camera looks up from the normal of the screen')
    return parser.parse_args()


def described(args: argparse.Namespace) -> Screen:
    """The screen without the camera's own place."""
    if args.display:
        if args.size_px:
            raise UserError('--display knows the resolution: leave --size-px out')
        shown = Screen.from_display()
        return Screen.with_camera_above(shown.size_mm, shown.size_px, args.camera_above_mm)
    width, height = args.size_px or (1920.0, 1080.0)
    if not (width > 0 and height > 0):
        raise UserError(f'--size-px must be two positive numbers of px, not {width:g} {height:g}')
    if args.diagonal is not None:
        return Screen.from_diagonal(args.diagonal, (width, height), args.camera_above_mm)
    size_mm = args.size_mm
    if size_mm is None:
        try:
            across = float(input('width of the picture area in mm: ')) if args.width_mm is None else args.width_mm
        except (ValueError, EOFError):
            raise UserError('a width in mm is needed: --width-mm 344, --diagonal 15.6, or --display') from None
        size_mm = across, across * height / width
    return Screen.with_camera_above((size_mm[0], size_mm[1]), (width, height), args.camera_above_mm)


@run_tool
def main() -> None:
    """Describe, write, print."""
    args = parse_args()
    screen = described(args)
    screen = Screen(screen.size_px, screen.size_mm, args.camera_mm or screen.camera_mm, args.tilt)
    screen.save(args.out)
    (width, height), (x, y, z) = screen.size_mm, screen.camera_mm
    print(f'{args.out}: {width:.1f} x {height:.1f} mm, {screen.size_px[0]:g} x {screen.size_px[1]:g} px')
    print(
        f'camera: {x:.1f} mm from the left edge, {-y:.1f} mm above the upper one, {0 - z:.1f} mm in front of the screen'
    )


if __name__ == '__main__':
    main()
