"""Draws the figures of the documentation: python docs/figures/make_figures.py. All positions come from evg.geometry."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Circle, Ellipse, Polygon, Rectangle
from numpy.typing import NDArray

from evg.geometry import Rig, VirtualPlane, pitchyaw_to_vector, plane_point_by_pose, plane_point_by_ray

HERE = Path(__file__).parent
CAMERA, PLANE, SCREEN, GAZE, INK, PALE = '#1f5fbf', '#23863a', '#d9720a', '#c81e32', '#222222', '#8a8f98'
SIZE = 11


def desk(tilt_deg: float = 0, above_mm: float = 0) -> Rig:
    """EVE's screen; the camera stands `above_mm` over its top edge and looks down by `tilt_deg`."""
    c, s = np.cos(np.radians(tilt_deg)), np.sin(np.radians(tilt_deg))
    transform = np.eye(4)
    transform[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.diag([-1.0, 1.0, -1.0])
    transform[:3, 3] = (276.5, above_mm, 0)
    return Rig(
        image_size=(1920, 1080),
        screen_size_px=(1920, 1080),
        screen_size_mm=(553, 311),
        screen_center_plane_mm=(0, 155.5),
        screen_to_camera=transform,
    )


def by(point, x: float, y: float) -> NDArray[np.float64]:
    """A point (2,) moved by (x, y)."""
    return np.add(point, (x, y))


def arrow(axes: Axes, start, end, color: str, width: float = 2.2) -> None:
    """An arrow between points (2,) of the data."""
    style = dict(arrowstyle='-|>', color=color, lw=width, shrinkA=0, shrinkB=0, mutation_scale=16)
    axes.annotate('', xy=tuple(end), xytext=tuple(start), arrowprops=style)


def note(axes: Axes, at, text: str, color: str = INK, **more) -> None:
    """Text at a point (2,) of the data."""
    style = dict(fontsize=SIZE, ha='center', va='center', linespacing=1.25)
    axes.text(at[0], at[1], text, color=color, **{**style, **more})


def panel(axes: Axes, title: str, x: tuple[float, float], top: float) -> None:
    """An empty panel; y grows downwards, as in all frames here."""
    y = (top, top + (x[1] - x[0]) / 1.44)
    axes.set_title(title, fontsize=SIZE + 2, loc='left', color=INK, fontweight='bold', pad=8)
    axes.set(xlim=x, ylim=(y[1], y[0]), aspect='equal', xticks=[], yticks=[])
    axes.spines[:].set_color('#d0d4da')


def user_view(axes: Axes, rig: Rig) -> None:
    """The screen and the plane, from behind the user."""
    panel(axes, 'A  What the user sees (plane frame, offset rule)', (-640, 640), -380)
    plane = VirtualPlane((3840, 2160), 3.3)
    low, high = plane.to_mm([0, 0]), plane.to_mm(plane.size_px)
    axes.add_patch(Rectangle(low, *(high - low), fill=False, ls=(0, (5, 4)), ec=PLANE, lw=1.6))
    note(axes, (low[0] + 12, low[1] + 26), 'virtual plane, 3840 x 2160 px at 3.3 px/mm', PLANE, ha='left')
    note(axes, (low[0] + 12, low[1] + 62), 'px = size / 2 + ppm * (u, v)', PLANE, ha='left')
    first, last = rig.offset_screen_px_to_plane([[0, 0], [1920, 1080]])
    axes.add_patch(Rectangle(first, *(last - first), fc='#fff5ea', ec=SCREEN, lw=2.2))
    arrow(axes, first, by(first, 110, 0), SCREEN)
    arrow(axes, first, by(first, 0, 110), SCREEN)
    note(axes, by(first, 124, 22), 'screen x', SCREEN, ha='left')
    note(axes, by(first, -14, 100), 'screen y', SCREEN, ha='right')
    axes.add_patch(Circle(first, 7, color=SCREEN))
    note(axes, by(first, -14, 22), 'screen (0, 0)', SCREEN, ha='right')

    arrow(axes, (0, 0), (210, 0), PLANE)
    note(axes, (150, -24), "u  (user's right)", PLANE, ha='left')
    arrow(axes, (8, 0), (8, 140), PLANE)
    note(axes, (22, 96), 'v  (down)', PLANE, ha='left')
    arrow(axes, (0, 0), (-150, 0), CAMERA)
    note(axes, (-150, -24), 'camera x', CAMERA)
    arrow(axes, (-8, 0), (-8, 140), CAMERA)
    note(axes, (-22, 96), 'camera y', CAMERA, ha='right')
    axes.add_patch(Circle((0, 0), 17, fc='white', ec=CAMERA, lw=2.2, zorder=5))
    axes.add_patch(Circle((0, 0), 5, color=CAMERA, zorder=6))
    note(axes, (0, -78), 'camera; its z points\nout of the page, at the user', CAMERA)

    pixel = np.array([1440, 700])
    point = rig.offset_screen_px_to_plane(pixel)
    axes.add_patch(Circle(point, 10, color=GAZE, zorder=6))
    lines = [
        'point of gaze',
        'screen px ({:.0f}, {:.0f})'.format(*pixel),
        'plane mm ({:.1f}, {:.1f})'.format(*point),
        'VP px ({:.1f}, {:.1f})'.format(*plane.from_mm(point)),
    ]
    note(axes, by(point, -26, 20), '\n'.join(lines), GAZE, ha='right')
    note(axes, (-560, 450), "user's left", PALE, ha='left')
    note(axes, (560, 450), "user's right", PALE, ha='right')
    arrow(axes, (-330, 450), (-400, 450), PALE)
    arrow(axes, (310, 450), (380, 450), PALE)


def picture_view(axes: Axes) -> None:
    """The stored picture and the signs of pitch and yaw."""
    panel(axes, 'B  What the camera sees (stored picture, never mirrored)', (-140, 2060), -190)
    axes.add_patch(Rectangle((0, 0), 1920, 1080, fc='#f3f6fb', ec=CAMERA, lw=2))
    center = np.array([960, 560])
    axes.add_patch(Polygon([(560, 1080), (660, 930), (1260, 930), (1360, 1080)], fc='#c9d3df', ec='none'))
    axes.add_patch(Ellipse(center, 640, 780, fc='#f0d3bd', ec='#b98d6d', lw=1.5))
    for x in (-120, 120):
        axes.add_patch(Ellipse(by(center, x, -90), 120, 62, fc='white', ec='#7a5a45'))
        axes.add_patch(Circle(by(center, x, -90), 25, color='#4c6b8a'))
    axes.add_patch(Polygon(center + np.array([(-26, 80), (0, -10), (26, 80)]), fill=False, ec='#b98d6d', lw=1.5))
    axes.add_patch(Arc(by(center, 0, 175), 200, 100, theta1=20, theta2=160, ec='#a5584f', lw=2))
    note(axes, (320, 470), "user's\nright eye")
    note(axes, (1600, 470), "user's\nleft eye")
    for x, eye in ((430, 770), (1490, 1150)):
        axes.plot([x, eye], [470, 470], color=PALE, lw=1)
    # The directions of +pitch and +yaw in the picture are those of the unit vectors.
    origin = by(center, 0, 20)
    for name, angles, length, at in (
        ('+ pitch: looks up', (0.4, 0), 1250, (960, 40)),
        ("+ yaw: looks to the\nuser's right, which is\nleft in the picture", (0, 0.4), 1250, (340, 780)),
    ):
        direction = pitchyaw_to_vector(angles)[:2]
        arrow(axes, origin, origin + length * direction, GAZE, 2.8)
        note(axes, at, name, GAZE)
    axes.add_patch(Circle(origin, 14, color=GAZE, zorder=5))
    note(axes, by(origin, 40, 22), 'face origin', GAZE, ha='left')
    arrow(axes, (0, 0), (330, 0), CAMERA)
    arrow(axes, (0, 0), (0, 330), CAMERA)
    note(axes, (350, 44), 'x, camera x', CAMERA, ha='left')
    note(axes, (28, 330), 'y, camera y', CAMERA, ha='left')
    note(axes, (0, -60), 'the first pixel has its centre at (0, 0), its corner at (-0.5, -0.5)', CAMERA, ha='left')
    note(axes, (960, 1180), 'gaze n = -(cos p sin y, sin p, cos p cos y), from the eye to the target', GAZE)
    note(axes, (960, 1270), 'pitch p = asin(-n_y)      yaw y = atan2(-n_x, -n_z)', GAZE)


def side_view(axes: Axes) -> None:
    """Pitch, and the ways to put a point of the screen on the plane."""
    panel(axes, 'C  From the side (tilt exaggerated): the placement rules', (-390, 650), -120)
    rig = desk(24, 45)
    pixel = np.array([960.0, 850.0])
    target, edge, foot = (rig.screen_px_to_camera(p)[[2, 1]] for p in (pixel, (960, 0), (960, 1080)))
    eye = np.array([560.0, 50.0])  # (z, y)
    axes.axvline(0, color=PLANE, lw=1.6, ls=(0, (5, 4)))
    note(axes, (10, 560), "plane: the camera's z = 0", PLANE, ha='left')
    axes.plot(*zip(edge, foot, strict=True), color=SCREEN, lw=6, solid_capstyle='round')
    note(axes, by(foot, 14, 10), 'screen', SCREEN, ha='left')
    arrow(axes, (0, 0), (120, 0), CAMERA)
    arrow(axes, (0, 0), (0, 95), CAMERA)
    note(axes, (126, -6), 'camera z', CAMERA, ha='left')
    note(axes, (-10, 84), 'camera y', CAMERA, ha='right')
    axes.add_patch(Circle((0, 0), 11, color=CAMERA, zorder=6))
    note(axes, (-18, -22), 'camera', CAMERA, ha='right')

    origin, point = np.array([0, eye[1], eye[0]]), np.array([0, target[1], target[0]])
    ray = np.array([0, plane_point_by_ray(origin, point)[1]])
    drop = np.array([0, plane_point_by_pose(point)[1]])
    laid = np.array([0, rig.offset_screen_px_to_plane(pixel)[1]])
    axes.plot(*zip(eye, target, strict=True), color=GAZE, lw=1.4)
    axes.plot(*zip(target, ray, strict=True), color=GAZE, lw=1.2, ls='--')
    direction = (target - eye) / np.linalg.norm(target - eye)
    arrow(axes, eye, eye + 150 * direction, GAZE, 3)
    note(axes, eye + 120 * direction + (10, -26), 'n', GAZE, fontweight='bold')
    axes.plot([eye[0], eye[0] - 190], [eye[1], eye[1]], color=PALE, lw=1, ls='--')
    angle = np.degrees(np.arctan2(direction[1], -direction[0]))
    axes.add_patch(Arc(eye, 300, 300, theta1=180 - angle, theta2=180, ec=GAZE, lw=1.6))
    note(axes, (510, 168), 'pitch, here < 0: down', GAZE)
    axes.plot([470, 416], [152, 88], color=GAZE, lw=0.8)
    axes.add_patch(Circle(eye, 15, fc='white', ec=INK, lw=1.6, zorder=6))
    note(axes, by(eye, 0, -34), 'face origin')
    axes.plot([target[0], 0], [target[1], target[1]], color=PLANE, lw=1, ls=':')
    axes.add_patch(Circle(target, 8, color=GAZE, zorder=6))
    note(axes, by(target, 18, 14), 'target', GAZE, ha='left')
    for at, name, text_y in (
        (laid, "rule 'offset': the screen is\nlaid into the plane, its top\nedge at the camera", 190),
        (drop, 'projection: z is dropped', 280),
        (ray, "rule 'pose': where the ray\nfrom the face origin\nmeets the plane", 375),
    ):
        axes.add_patch(Circle(at, 7, color=PLANE, zorder=7))
        axes.plot([0, -66], [at[1], text_y], color=PLANE, lw=0.8)
        note(axes, (-72, text_y), name, PLANE, ha='right')


def top_view(axes: Axes) -> None:
    """Yaw."""
    panel(axes, 'D  From above: yaw', (-560, 560), -110)
    rig = desk()
    edge = rig.screen_px_to_camera([[0, 300], [1920, 300]])
    flat = np.stack([-edge[:, 0], edge[:, 2]], axis=1)  # (u, z): the user's right is right
    axes.plot(flat[:, 0], flat[:, 1] - 10, color=SCREEN, lw=6, solid_capstyle='round')
    note(axes, (-300, -36), 'screen', SCREEN)
    arrow(axes, (0, 0), (-150, 0), CAMERA)
    arrow(axes, (0, 0), (0, 150), CAMERA)
    note(axes, (-160, 30), 'camera x', CAMERA)
    note(axes, (14, 150), 'camera z', CAMERA, ha='left')
    arrow(axes, (0, 0), (150, 0), PLANE)
    note(axes, (120, 30), 'u', PLANE)
    axes.add_patch(Circle((0, 0), 11, color=CAMERA, zorder=6))
    note(axes, (0, -42), 'camera', CAMERA)
    eye, target = np.array([0.0, 560.0]), np.array([215.0, 0.0])
    axes.add_patch(Ellipse(by(eye, 0, 58), 330, 90, fc='#c9d3df', ec='none'))
    axes.add_patch(Circle(by(eye, 0, 20), 68, fc='#f0d3bd', ec='#b98d6d', lw=1.5))
    axes.plot(*zip(eye, target, strict=True), color=GAZE, lw=1.4)
    direction = (target - eye) / np.linalg.norm(target - eye)
    arrow(axes, eye, eye + 240 * direction, GAZE, 3)
    note(axes, eye + 240 * direction + (28, 18), 'n', GAZE, fontweight='bold')
    axes.plot([0, 0], [eye[1], 200], color=PALE, lw=1, ls='--')
    angle = np.degrees(np.arctan2(direction[0], -direction[1]))
    axes.add_patch(Arc(eye, 360, 360, theta1=270, theta2=270 + angle, ec=GAZE, lw=1.6))
    note(axes, (-14, 390), '+ yaw', GAZE, ha='right')
    axes.add_patch(Circle(target, 9, color=GAZE, zorder=6))
    note(axes, by(target, 0, -42), 'target', GAZE)
    axes.add_patch(Circle(eye, 9, color=INK, zorder=6))
    note(axes, (-200, 520), 'face origin')
    axes.plot([-130, -12], [523, 556], color=PALE, lw=1)
    note(axes, (-530, 610), "user's left", PALE, ha='left')
    note(axes, (530, 610), "user's right", PALE, ha='right')


def main() -> None:
    """Draw frames.png beside this file."""
    figure = Figure((14.4, 10.8), dpi=100, facecolor='white')
    axes = figure.subplots(2, 2)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.965, bottom=0.01, wspace=0.03, hspace=0.09)
    user_view(axes[0, 0], desk())
    picture_view(axes[0, 1])
    side_view(axes[1, 0])
    top_view(axes[1, 1])
    FigureCanvasAgg(figure)
    figure.savefig(HERE / 'frames.png', metadata={'Software': None})
    print(HERE / 'frames.png')


if __name__ == '__main__':
    main()
