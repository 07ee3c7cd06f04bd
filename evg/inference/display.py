"""What this computer knows of its main screen: size in px and mm."""

import re
import shutil
import subprocess

from evg.errors import UserError

Size = tuple[float, float]

_ADVICE = 'measure the width of the picture area with a tape: python tools/make_screen.py --help'
_XRANDR = re.compile(r'^\S+ connected( primary)? (\d+)x(\d+)\+\S+ .*?(\d+)mm x (\d+)mm', re.MULTILINE)


def main_display() -> tuple[Size, Size]:
    """(width, height) of the main screen in mm, and in px.

    Raises:
        UserError: there is no display, or it does not tell its size.
    """
    size_mm, size_px = _ask_xrandr() or _ask_tkinter()
    if not (100 < size_mm[0] < 3000 and 50 < size_mm[1] < 2000):
        raise UserError(f'this display says that it is {size_mm[0]:g} x {size_mm[1]:g} mm large; {_ADVICE}')
    return size_mm, size_px


def parse_xrandr(text: str) -> tuple[Size, Size] | None:
    """Size in mm and px of the primary screen in the output of `xrandr --query`, else of the first; or None."""
    found = sorted(_XRANDR.finditer(text), key=lambda match: match[1] is None)
    if not found:
        return None
    width_px, height_px, width_mm, height_mm = (float(found[0][i]) for i in (2, 3, 4, 5))
    if (width_px > height_px) != (width_mm > height_mm):  # a turned screen still tells its size unturned
        width_mm, height_mm = height_mm, width_mm
    return (width_mm, height_mm), (width_px, height_px)


def _ask_xrandr() -> tuple[Size, Size] | None:
    if shutil.which('xrandr') is None:
        return None
    try:
        done = subprocess.run(['xrandr', '--query'], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_xrandr(done.stdout)


def _ask_tkinter() -> tuple[Size, Size]:
    try:
        import tkinter  # noqa: PLC0415 (not part of every Python)

        root = tkinter.Tk()
    except Exception as error:  # a missing library or display, each with an error of its own
        raise UserError(f'no display to ask ({error}); {_ADVICE}') from None
    root.withdraw()
    size_mm = float(root.winfo_screenmmwidth()), float(root.winfo_screenmmheight())
    size_px = float(root.winfo_screenwidth()), float(root.winfo_screenheight())
    root.destroy()
    return size_mm, size_px
