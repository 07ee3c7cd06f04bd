"""Geometry of gaze: numpy only, one place for each formula. docs/conventions.md holds the frames and signs."""

from .affine import InputFrame, apply_affine, compose_affine, flip_matrix, invert_affine
from .angles import angle_between_deg, pitchyaw_to_vector, vector_to_pitchyaw
from .normalisation import Normalisation, Normaliser, head_pitchyaw, normalisation_rotation
from .pupil import EyeModel
from .screen import Rig, intersect_plane, plane_point_by_pose, plane_point_by_ray
from .virtual_plane import VirtualPlane

__all__ = [
    'EyeModel',
    'InputFrame',
    'Normalisation',
    'Normaliser',
    'Rig',
    'VirtualPlane',
    'angle_between_deg',
    'apply_affine',
    'compose_affine',
    'flip_matrix',
    'head_pitchyaw',
    'intersect_plane',
    'invert_affine',
    'normalisation_rotation',
    'pitchyaw_to_vector',
    'plane_point_by_pose',
    'plane_point_by_ray',
    'vector_to_pitchyaw',
]
