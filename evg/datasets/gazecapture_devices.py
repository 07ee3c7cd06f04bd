"""GazeCapture's devices: sizes and where the camera is, and from them where the screen lies in each orientation.

Convention:
    mm; the camera's place is measured from the screen's upper left corner in portrait orientation, x to the right, y up
    (so a camera above the screen has y > 0). Plane frame: origin at the camera, u to the user's right, v down, in the
    current interface orientation.
"""

from dataclasses import dataclass

from evg.errors import did_you_mean

PORTRAIT, UPSIDE_DOWN, HOME_RIGHT, HOME_LEFT = ORIENTATIONS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Device:
    """One row of the table that the data set's authors published, `code/apple_device_data.csv`.

    Attributes:
        name: as in the table.
        camera_x_mm, camera_y_mm: the camera from the screen's upper left corner, in portrait.
        screen_mm: (width, height) in portrait.
        screen_points: (width, height) in portrait.
        zoomed_points: the same in zoom mode, None where there is none.
    """

    name: str
    camera_x_mm: float
    camera_y_mm: float
    screen_mm: tuple[float, float]
    screen_points: tuple[int, int]
    zoomed_points: tuple[int, int] | None = None

    def placement(self, orientation: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """Where the screen is, as the user sees it.

        Args:
            orientation: 1 portrait, 2 upside down, 3 landscape with the home button right, 4 with it left.

        Returns:
            (width, height) of the screen and (u, v) of its centre on the plane, mm.
        """
        width, height = self.screen_mm
        # The screen's centre in portrait; a turn of the device turns it about the camera.
        right, down = width / 2 - self.camera_x_mm, height / 2 + self.camera_y_mm
        return {
            PORTRAIT: ((width, height), (right, down)),
            UPSIDE_DOWN: ((width, height), (-right, -down)),
            HOME_RIGHT: ((height, width), (down, -right)),
            HOME_LEFT: ((height, width), (-down, right)),
        }[orientation]

    def knows_points(self, orientation: int, points: tuple[float, float]) -> bool:
        """Whether (width, height) in points is this device's screen in an orientation, zoomed or not."""
        portrait = points if orientation in (PORTRAIT, UPSIDE_DOWN) else points[::-1]
        return portrait in (self.screen_points, self.zoomed_points)


_PLUS, _PLUS_ZOOMED = (414, 736), (375, 667)
_SIX, _SIX_ZOOMED = (375, 667), (320, 568)
_FIVE_MM, _FIVE = (51.7, 90.39), (320, 568)
_IPAD_MM, _IPAD = (149.0, 198.1), (768, 1024)
DEVICES = (
    Device('iPhone 6s Plus', 23.54, 8.66, (68.36, 121.54), _PLUS, _PLUS_ZOOMED),
    Device('iPhone 6 Plus', 23.54, 8.65, (68.36, 121.54), _PLUS, _PLUS_ZOOMED),
    Device('iPhone 6s', 18.61, 8.04, (58.49, 104.05), _SIX, _SIX_ZOOMED),
    Device('iPhone 6', 18.61, 8.03, (58.5, 104.05), _SIX, _SIX_ZOOMED),
    Device('iPhone 5s', 25.85, 10.65, _FIVE_MM, _FIVE),
    Device('iPhone 5c', 25.85, 10.64, _FIVE_MM, _FIVE),
    Device('iPhone 5', 25.85, 10.65, _FIVE_MM, _FIVE),
    Device('iPhone 4s', 14.96, 9.78, (49.92, 74.88), (320, 480)),
    Device('iPad Mini', 60.7, 8.7, (121.3, 161.2), _IPAD),
    Device('iPad Air 2', 76.86, 7.37, (153.71, 203.11), _IPAD),
    Device('iPad Air', 74.4, 9.9, (149.0, 198.1), _IPAD),
    Device('iPad 4', 74.5, 10.5, _IPAD_MM, _IPAD),
    Device('iPad 3', 74.5, 10.5, _IPAD_MM, _IPAD),
    Device('iPad 2', 74.5, 10.5, _IPAD_MM, _IPAD),
    Device('iPad Pro', 98.31, 10.69, (196.61, 262.15), (1024, 1366), (768, 1024)),
)
_BY_NAME = {device.name.lower(): device for device in DEVICES}


def find_device(name: str) -> Device:
    """The device of a name; upper and lower case are the same, the files vary.

    Raises:
        LookupError: it is not in the table.
    """
    try:
        return _BY_NAME[name.strip().lower()]
    except KeyError:
        known = did_you_mean(name, (device.name for device in DEVICES))
        raise LookupError(f'no size and camera place is known of the device {name!r}{known}') from None


def is_tablet(name: str) -> bool:
    """Whether a device (a name of the table or of an index's `device` column) is a tablet; otherwise it is a phone."""
    return name.strip().lower().startswith('ipad')
