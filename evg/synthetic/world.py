"""The synthetic world: persons in front of a camera and a screen, as frames with exact labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from evg.geometry import plane_point_by_pose, plane_point_by_ray, vector_to_pitchyaw
from evg.synthetic.eyes import Eye, lid_curves
from evg.synthetic.head import HeadMaps, build_head
from evg.synthetic.paint import project
from evg.synthetic.persons import Person, make_person
from evg.synthetic.renderer import Look, Scene, render, sample_look, spoil
from evg.synthetic.scene import SETUPS, State, eye_rotation, head_rotation, make_rig, sample_clip, sample_state

_FRAME, _CLIP = 1, 2


@dataclass(frozen=True, eq=False)
class SynthFrame:
    """One picture and everything that is known about it. All labels are float64 and exact.

    Convention: camera frame (OpenCV), mm: x right in the picture, y down, z into the scene; the subject's right eye has
    the smaller x. Picture px: pixel centres at integers. Plane frame: (u, v) = (-x_cam, y_cam), mm. Screen px: origin
    upper left as the user sees it.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        person, index: which person, which frame of theirs (of the clip, in a sequence).
        pog_px: (2,) point of gaze, screen px.
        target_cam_mm: (3,) the same point in the camera frame.
        pog_plane_mm: (2,) the target with z dropped.
        pog_plane_ray_mm: (2,) where the line from face_origin_mm through the target meets z = 0.
        face_origin_mm: (3,) mean of the midpoint of the four eye corners and the midpoint of the nose's wings.
        left_eye_mm, right_eye_mm: (3,) eyeball centres.
        gaze_cam: (3,) unit, face_origin_mm to target.
        left_gaze_cam, right_gaze_cam: (3,) unit visual axes, eyeball centre to target.
        left_optical_cam, right_optical_cam: (3,) unit optical axes.
        kappa_left_rad, kappa_right_rad: (pitch, yaw) of the visual axis in the eye's own frame (-z optical axis).
        head_rotation: (3, 3) head axes in the camera frame, as columns; identity for a face straight at the camera.
        head_translation_mm: (3,) head origin: midway between the eyeball centres.
        face_box_px: (4,) x0, y0, x1, y1: box of the 68 landmarks, 10 % wider on each side, clipped to the picture.
        landmarks_px: (68, 2) 68-style landmarks.
        eye_landmarks_px: (12, 2) landmarks 36..47.
        pupil_landmarks_px: (2, 8, 2) points on the rim of the pupil, the subject's right eye first.
        pupil_radius_mm: of both pupils.
        eye_openness: 0 closed to about 1 wide open.
        blink: True where the lids cover most of the pupil.
        has_glasses: whether the person wears glasses.
    """

    image: NDArray[np.uint8]
    person: int
    index: int
    pog_px: NDArray[np.float64]
    target_cam_mm: NDArray[np.float64]
    pog_plane_mm: NDArray[np.float64]
    pog_plane_ray_mm: NDArray[np.float64]
    face_origin_mm: NDArray[np.float64]
    left_eye_mm: NDArray[np.float64]
    right_eye_mm: NDArray[np.float64]
    gaze_cam: NDArray[np.float64]
    left_gaze_cam: NDArray[np.float64]
    right_gaze_cam: NDArray[np.float64]
    left_optical_cam: NDArray[np.float64]
    right_optical_cam: NDArray[np.float64]
    kappa_left_rad: NDArray[np.float64]
    kappa_right_rad: NDArray[np.float64]
    head_rotation: NDArray[np.float64]
    head_translation_mm: NDArray[np.float64]
    face_box_px: NDArray[np.float64]
    landmarks_px: NDArray[np.float64]
    eye_landmarks_px: NDArray[np.float64]
    pupil_landmarks_px: NDArray[np.float64]
    pupil_radius_mm: float
    eye_openness: float
    blink: bool
    has_glasses: bool


class SyntheticWorld:
    """Persons in front of one camera and one screen.

    Every frame is a function of (seed, geometry, size, person, index) alone.

    Args:
        geometry: 'eve' (webcam and desktop monitor), 'close' (the same desk, the face half the picture high), 'phone'
            or 'tablet'.
        size: (width, height) of the pictures, px; None for the geometry's own.
        seed: of the world; a person with the same number in another world is somebody else.

    Raises:
        ValueError: unknown geometry, unusable size or negative seed.
    """

    def __init__(self, geometry: str = 'close', size: tuple[int, int] | None = None, seed: int = 0):
        if seed < 0:
            raise ValueError(f'seed must not be negative, not {seed}')
        self.rig = make_rig(geometry, size)
        self.geometry = geometry
        self.seed = int(seed)
        self._setup = SETUPS[geometry]
        # Texels about as fine as the picture's pixels at the face.
        self._camera_matrix = np.asarray(self.rig.camera_matrix)
        per_mm = self._camera_matrix[0, 0] / self._setup.seat_mm[2]
        self._texels = int(np.clip(round(350 * per_mm), 128, 416))

    def frame(self, person: int, index: int, *, clean: bool = False) -> SynthFrame:
        """Frame `index` of person `person`, each independent of all others.

        Args:
            person: id, 0 or more.
            index: 0 or more.
            clean: leave out blur, noise and JPEG.
        """
        if person < 0 or index < 0:
            raise ValueError(f'person and index must be 0 or more, not {person} and {index}')
        rng = np.random.default_rng([self.seed, _FRAME, person, index])
        subject = _person(self.seed, person)
        state = sample_state(self.rig, self._setup, subject, rng)
        look = sample_look(rng)
        return self._shoot(subject, index, state, look, None if clean else rng)

    def sequence(self, person: int, step: int, n: int, fps: float) -> Iterator[SynthFrame]:
        """A clip of `n` frames at `fps`: fixations, saccades, pursuits, a smooth head, blinks, one light.

        Args:
            person: id, 0 or more.
            step: number of the clip; clips are independent.
            n: number of frames.
            fps: frames per second.
        """
        if person < 0 or step < 0 or n < 0 or not fps > 0:
            raise ValueError(f'person, step and n must be 0 or more and fps positive: {person}, {step}, {n}, {fps}')
        rng = np.random.default_rng([self.seed, _CLIP, person, step])
        subject = _person(self.seed, person)
        look = sample_look(rng)
        for index, state in enumerate(sample_clip(self.rig, self._setup, subject, rng, n, fps)):
            noise = np.random.default_rng([self.seed, _CLIP, person, step, index])
            yield self._shoot(subject, index, state, look, noise)

    def _shoot(self, person: Person, index: int, state: State, look: Look, spoil_rng) -> SynthFrame:
        rig = self.rig
        maps = _head_maps(self.seed, person.number, self._texels)
        rotation = head_rotation(state.head_pitchyaw_rad, state.head_roll_rad)
        target = rig.screen_px_to_camera(state.target_px)
        right, left = (_place_eye(person, side, rotation, state, target) for side in (-1, 1))
        scene = Scene(rig.image_size, self._camera_matrix, person, maps, rotation, state.head_mm, (right, left), look)
        picture = render(scene)
        if spoil_rng is not None:
            picture = spoil(picture, look, spoil_rng, self._camera_matrix[0, 0] / state.head_mm[2])

        landmarks = maps.landmarks_mm @ rotation.T + state.head_mm
        landmarks[36:42] = right.landmarks()
        landmarks[42:48] = left.landmarks()[[3, 2, 1, 0, 5, 4]]
        corners = landmarks[[36, 39, 42, 45]].mean(axis=0)
        origin = (corners + landmarks[[31, 35]].mean(axis=0)) / 2
        landmarks_px = project(landmarks, self._camera_matrix)
        pupils = project(np.stack([eye.pupil_circle() for eye in (right, left)]), self._camera_matrix)
        return SynthFrame(
            image=picture,
            person=person.number,
            index=index,
            pog_px=state.target_px,
            target_cam_mm=target,
            pog_plane_mm=plane_point_by_pose(target),
            pog_plane_ray_mm=plane_point_by_ray(origin, target),
            face_origin_mm=origin,
            left_eye_mm=left.centre,
            right_eye_mm=right.centre,
            gaze_cam=_unit(target - origin),
            left_gaze_cam=_unit(target - left.centre),
            right_gaze_cam=_unit(target - right.centre),
            left_optical_cam=left.optical_axis,
            right_optical_cam=right.optical_axis,
            kappa_left_rad=person.kappa_left_rad.copy(),
            kappa_right_rad=person.kappa_right_rad.copy(),
            head_rotation=rotation,
            head_translation_mm=state.head_mm,
            face_box_px=_face_box(landmarks_px, rig.image_size),
            landmarks_px=landmarks_px,
            eye_landmarks_px=landmarks_px[36:48].copy(),
            pupil_landmarks_px=pupils,
            pupil_radius_mm=state.pupil_mm,
            eye_openness=state.openness,
            blink=state.openness < 0.35,
            has_glasses=person.glasses is not None,
        )


def gallery(seed: int = 0, columns: int = 6, rows: int = 4, size: tuple[int, int] = (240, 180)) -> NDArray[np.uint8]:
    """A sheet of different people in all geometries.

    Args:
        seed: of the worlds.
        columns, rows: of the sheet.
        size: (width, height) of one picture, px.

    Returns:
        (rows * height, columns * width, 3) uint8 BGR.
    """
    worlds = [SyntheticWorld(name, size, seed) for name in SETUPS]
    tiles = [worlds[i % len(worlds)].frame(i, i).image for i in range(columns * rows)]
    return np.vstack([np.hstack(tiles[r * columns : (r + 1) * columns]) for r in range(rows)])


def _place_eye(person: Person, side: int, rotation, state: State, target) -> Eye:
    centre = rotation @ np.array([side * person.ipd_mm / 2, 0.0, 0.0]) + state.head_mm
    kappa = person.kappa_right_rad if side < 0 else person.kappa_left_rad
    turned = eye_rotation(rotation.T @ _unit(target - centre), kappa)
    pitch = vector_to_pitchyaw(-turned[:, 2])[0]
    upper, lower, crease = (c @ rotation.T + centre for c in lid_curves(person, side, pitch, state.openness))
    return Eye(centre, rotation @ turned, state.pupil_mm, upper, lower, crease, side)


def _unit(vector) -> NDArray[np.float64]:
    return vector / np.linalg.norm(vector)


def _face_box(landmarks_px, size) -> NDArray[np.float64]:
    low, high = landmarks_px.min(axis=0), landmarks_px.max(axis=0)
    margin = 0.1 * (high - low)
    limit = np.array(size, np.float64) - 1
    return np.concatenate([np.clip(low - margin, 0, limit), np.clip(high + margin, 0, limit)])


@lru_cache(maxsize=24)
def _head_maps(seed: int, person: int, texels: int) -> HeadMaps:
    return build_head(_person(seed, person), texels)


@lru_cache(maxsize=256)
def _person(seed: int, number: int) -> Person:
    return make_person(seed, number)
