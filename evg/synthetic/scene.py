"""Camera, screen, where the head is and where the eyes look: all geometry of a frame, before any pixel is drawn."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evg.geometry import Rig, pitchyaw_to_vector, vector_to_pitchyaw
from evg.synthetic.persons import Person

EYEBALL_RADIUS_MM = 12.0
IRIS_RADIUS_MM = 5.9
# The iris is the disc that the sphere leaves open, so its rim lies on the sphere: 10.45 mm in front of the centre.
IRIS_DEPTH_MM = float(np.sqrt(EYEBALL_RADIUS_MM**2 - IRIS_RADIUS_MM**2))


@dataclass(frozen=True)
class Setup:
    """What a geometry is made of: the default picture, the lens, the screen and where people sit.

    Attributes:
        size: default (width, height) of the picture, px.
        focal: focal length in units of the longer side of the picture.
        screen_px, screen_mm: (width, height) of the screen.
        screen_to_camera: (4, 4), mm.
        center_plane_mm: (u, v) of the screen's centre under the offset rule.
        seat_mm: mean of the head's position in the camera frame (3,).
        seat_spread_mm: its spread between persons and within a person (2, 3).
        depth_mm: nearest and farthest distance of the head.
    """

    size: tuple[int, int]
    focal: float
    screen_px: tuple[int, int]
    screen_mm: tuple[float, float]
    screen_to_camera: NDArray[np.float64]
    center_plane_mm: tuple[float, float]
    seat_mm: tuple[float, float, float]
    seat_spread_mm: tuple[tuple[float, float, float], tuple[float, float, float]]
    depth_mm: tuple[float, float]


def _pose(translation_mm, tilt_deg=0.0, turn_deg=0.0, roll_deg=0.0) -> NDArray[np.float64]:
    """Screen to camera: a screen facing the user, then turned about the camera's x, y and z axes."""
    transform = np.eye(4)
    turned = rotation_y(np.radians(turn_deg)) @ rotation_x(np.radians(tilt_deg)) @ rotation_z(np.radians(roll_deg))
    transform[:3, :3] = turned @ np.diag([-1.0, 1.0, -1.0])
    transform[:3, 3] = translation_mm
    return transform


def rotation_x(angle: float) -> NDArray[np.float64]:
    """Rotation about x by `angle` radians (y towards z)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def rotation_y(angle: float) -> NDArray[np.float64]:
    """Rotation about y by `angle` radians (z towards x)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def rotation_z(angle: float) -> NDArray[np.float64]:
    """Rotation about z by `angle` radians (x towards y)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _setups() -> dict[str, Setup]:
    monitor_px, monitor_mm, monitor_center_mm = (1920, 1080), (553.0, 311.0), (0.0, 155.5)
    # Both webcams stand a little above the top edge and look slightly down, as EVE's do: the two placement rules of a
    # screen point (offset, pose) differ by about 15 mm. The close one is the same desk through a longer lens.
    monitor_pose = _pose((279.5, 15.0, 3.0), tilt_deg=3.0, turn_deg=0.8, roll_deg=0.3)
    eve = Setup(
        size=(480, 270),
        focal=1435 / 1920,
        screen_to_camera=monitor_pose,
        seat_mm=(0, 25, 600),
        seat_spread_mm=((28, 20, 50), (18, 12, 28)),
        depth_mm=(450, 750),
        screen_px=monitor_px,
        screen_mm=monitor_mm,
        center_plane_mm=monitor_center_mm,
    )
    close = Setup(
        size=(160, 96),
        focal=1.6,
        screen_to_camera=monitor_pose,
        seat_mm=(0, -36, 590),
        seat_spread_mm=((14, 9, 28), (13, 8, 20)),
        depth_mm=(500, 690),
        screen_px=monitor_px,
        screen_mm=monitor_mm,
        center_plane_mm=monitor_center_mm,
    )

    # Phones and tablets: GazeCapture's device table (iPhone 6, iPad), camera and screen in one plane.
    def handheld(screen_px, screen_mm, camera_mm, distance_mm) -> Setup:
        return Setup(
            size=(240, 320),
            focal=610 / 640,
            screen_px=screen_px,
            screen_mm=screen_mm,
            screen_to_camera=_pose((camera_mm[0], camera_mm[1], 0.0)),
            center_plane_mm=(screen_mm[0] / 2 - camera_mm[0], screen_mm[1] / 2 + camera_mm[1]),
            seat_mm=(0, -12, distance_mm),
            seat_spread_mm=((14, 14, 26), (14, 12, 20)),
            depth_mm=(250, 450),
        )

    phone = handheld((375, 667), (58.5, 104.05), (18.61, 8.03), 330)
    tablet = handheld((768, 1024), (149.0, 198.1), (74.5, 10.5), 370)
    return {'eve': eve, 'close': close, 'phone': phone, 'tablet': tablet}


SETUPS = _setups()


def make_rig(geometry: str, size: tuple[int, int] | None = None) -> Rig:
    """Camera and screen of a geometry.

    Args:
        geometry: 'eve', 'close', 'phone' or 'tablet'.
        size: (width, height) of the picture, px, or None for the geometry's own.

    Raises:
        ValueError: an unknown geometry or an unusable size.
    """
    if geometry not in SETUPS:
        raise ValueError(f'unknown geometry {geometry!r}; the synthetic world has {", ".join(map(repr, SETUPS))}')
    setup = SETUPS[geometry]
    width, height = setup.size if size is None else (int(v) for v in size)
    if not (48 <= width <= 4096 and 48 <= height <= 4096):
        raise ValueError(f'size must be (width, height) with 48 to 4096 px each, not {size}')
    focal = setup.focal * max(width, height)
    camera_matrix = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    return Rig(
        image_size=(width, height),
        camera_matrix=camera_matrix,
        screen_size_px=setup.screen_px,
        screen_size_mm=setup.screen_mm,
        screen_to_camera=setup.screen_to_camera,
        screen_center_plane_mm=setup.center_plane_mm,
    )


@dataclass(frozen=True)
class State:
    """What a person does at one instant.

    Attributes:
        target_px: (2,) point of gaze on the screen, px.
        head_mm: (3,) head origin in the camera frame.
        head_pitchyaw_rad: (2,) direction of the face, camera frame.
        head_roll_rad: clockwise in the picture.
        openness: 0 closed to 1 open.
        pupil_mm: pupil radius.
    """

    target_px: NDArray[np.float64]
    head_mm: NDArray[np.float64]
    head_pitchyaw_rad: NDArray[np.float64]
    head_roll_rad: float
    openness: float
    pupil_mm: float


def head_rotation(pitchyaw_rad, roll_rad: float) -> NDArray[np.float64]:
    """Head axes as columns, camera frame: the face (-z of the head) looks along (pitch, yaw)."""
    pitch, yaw = pitchyaw_rad
    return rotation_y(yaw) @ rotation_x(-pitch) @ rotation_z(roll_rad)


def eye_rotation(visual_head: NDArray[np.float64], kappa_rad) -> NDArray[np.float64]:
    """The eye's rotation (head frame, Fick order, no torsion) that brings its visual axis onto a direction.

    Args:
        visual_head: (3,) unit direction of the visual axis, head frame.
        kappa_rad: (pitch, yaw) of the visual axis in the eye's frame.

    Returns:
        (3, 3); its columns are the eye's axes, the optical axis is minus the third one.
    """
    axis = pitchyaw_to_vector(kappa_rad)
    # R_y(yaw) R_x(-pitch) axis = visual: the height of the result fixes the pitch, its heading then the yaw.
    reach = np.hypot(axis[1], axis[2])
    pitch = np.arcsin(np.clip(-visual_head[1] / reach, -1, 1)) - np.arctan2(-axis[1], -axis[2])
    tilted = rotation_x(-pitch) @ axis
    yaw = np.arctan2(-visual_head[0], -visual_head[2]) - np.arctan2(-tilted[0], -tilted[2])
    return rotation_y(yaw) @ rotation_x(-pitch)


def face_towards(rig: Rig, head_mm, target_px, share: float, bias_rad, noise_rad) -> NDArray[np.float64]:
    """(pitch, yaw) of a head that makes `share` of the way from the screen's centre to the target."""
    aim_px = np.divide(rig.screen_size_px, 2)
    aim = vector_to_pitchyaw(rig.screen_px_to_camera(np.stack([aim_px, target_px])) - head_mm)
    # People hold the head between the camera and the screen's centre, not exactly at the centre.
    return 0.75 * aim[0] + share * (aim[1] - aim[0]) + bias_rad + noise_rad


def sample_state(rig: Rig, setup: Setup, person: Person, rng: np.random.Generator) -> State:
    """One random instant of a person."""
    target = rng.random(2) * rig.screen_size_px
    between, within = np.asarray(setup.seat_spread_mm)
    head = setup.seat_mm + between * person.posture[0] + within * np.clip(rng.standard_normal(3), -2.2, 2.2)
    head[2] = np.clip(head[2], *setup.depth_mm)
    noise = np.radians(rng.normal(0, [3.0, 3.5])) * (2.0 if rng.random() < 0.1 else 1.0)
    share = person.head_share + 0.1 * rng.standard_normal()
    pitchyaw = face_towards(rig, head, target, share, person.posture[1][:2], noise)
    roll = person.posture[1][2] + np.radians(rng.normal(0, 2.5))
    openness = float(np.clip(rng.normal(1.0, 0.06), 0.8, 1.15))
    if rng.random() < 0.04:
        openness = rng.uniform(0.0, 0.5)
    return State(
        target_px=target,
        head_mm=head,
        head_pitchyaw_rad=np.clip(pitchyaw, np.radians([-28, -32]), np.radians([24, 32])),
        head_roll_rad=float(roll),
        openness=openness,
        pupil_mm=rng.uniform(0.75, 2.0),
    )


def sample_clip(
    rig: Rig, setup: Setup, person: Person, rng: np.random.Generator, n: int, fps: float
) -> Iterator[State]:
    """A smooth clip: fixations, saccades and pursuits, a head that drifts and follows slowly, blinks."""
    seconds = np.arange(n) / fps
    target = _scan_path(rng, seconds) * rig.screen_size_px
    between, within = np.asarray(setup.seat_spread_mm)
    seat = setup.seat_mm + between * person.posture[0] + 0.7 * within * np.clip(rng.standard_normal(3), -2, 2)
    head = seat + within * 0.5 * _drift(rng, seconds, 3)
    head[:, 2] = np.clip(head[:, 2], *setup.depth_mm)
    noise = np.radians([2.0, 2.5, 1.5]) * _drift(rng, seconds, 3)
    closing = _blinks(rng, seconds)
    pupil = np.clip(rng.uniform(1.0, 1.7) + 0.2 * _drift(rng, seconds, 1)[:, 0], 0.75, 2.0)
    base_open = float(np.clip(rng.normal(1.0, 0.05), 0.85, 1.1))
    followed = target[0] if n else None
    follow = 1 - np.exp(-1 / (fps * 0.35))
    for i in range(n):
        followed = followed + follow * (target[i] - followed)
        pitchyaw = face_towards(rig, head[i], followed, person.head_share, person.posture[1][:2], noise[i, :2])
        yield State(
            target_px=target[i],
            head_mm=head[i],
            head_pitchyaw_rad=np.clip(pitchyaw, np.radians([-28, -32]), np.radians([24, 32])),
            head_roll_rad=float(person.posture[1][2] + noise[i, 2]),
            openness=float(base_open * (1 - closing[i])),
            pupil_mm=float(pupil[i]),
        )


def _scan_path(rng: np.random.Generator, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2) points in the unit square: fixations of 0.25 to 0.9 s joined by 50 ms saccades, some by a pursuit."""
    end = seconds[-1] if len(seconds) else 0.0
    times, points, clock = [0.0], [rng.random(2)], 0.0
    while clock <= end:
        clock += rng.uniform(0.25, 0.9)
        times.append(clock)
        points.append(points[-1])
        clock += rng.uniform(0.6, 1.6) if rng.random() < 0.2 else 0.05
        times.append(clock)
        points.append(rng.random(2))
    path = np.asarray(points)
    at = np.clip(np.searchsorted(times, seconds, side='right') - 1, 0, len(times) - 2)
    start, stop = np.take(times, at), np.take(times, at + 1)
    ease = np.clip((seconds - start) / (stop - start), 0, 1)
    ease = ease**3 * (10 - 15 * ease + 6 * ease**2)
    return path[at] + ease[:, None] * (path[at + 1] - path[at])


def _drift(rng: np.random.Generator, seconds: NDArray[np.float64], columns: int) -> NDArray[np.float64]:
    """(n, columns) smooth noise of about unit spread: a few slow sines."""
    frequency = rng.uniform(0.05, 0.5, (1, 4, columns))
    phase = rng.uniform(0, 2 * np.pi, (1, 4, columns))
    return 0.7 * np.sin(2 * np.pi * frequency * seconds[:, None, None] + phase).sum(axis=1)


def _blinks(rng: np.random.Generator, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) how far the lids are closed: blinks of 0.2 s every 2 to 6 s."""
    closing, clock = np.zeros_like(seconds), rng.uniform(0.5, 4)
    while len(seconds) and clock < seconds[-1]:
        closing = np.maximum(closing, np.clip(1.3 - np.abs(seconds - clock) / 0.08, 0, 1))
        clock += rng.uniform(2, 6)
    return closing
