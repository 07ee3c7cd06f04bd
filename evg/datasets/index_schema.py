"""What an index holds: its columns with units and frames, its declarations, and rigs as JSON.

Convention:
    Every column's unit and frame is in its field metadata, see `COLUMNS`; frames are those of docs/conventions.md.
    A missing label is null, never NaN. The file's metadata declares the schema version, the frame of the gaze vectors
    and how points were put on the plane; a file without these declarations is not read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from evg.errors import UserError
from evg.geometry import Rig

INDEX_NAME = 'index.parquet'
SCHEMA_VERSION = 1
# See docs/conventions.md.
GAZE_FRAMES = ('camera', 'normalised_r', 'normalised_sr', 'line_of_sight', 'head')
# How `pog_plane_pose_mm` was made.
POSE_RULES = ('ray', 'projection')
SPLITS = ('train', 'val', 'test')


class IndexFileError(UserError):
    """An index that cannot be used; the message names file, row and column."""


@dataclass(frozen=True)
class Column:
    """One column: its size (0 for a scalar), type, unit and frame.

    Attributes:
        repeats: text of few different values, which is kept as numbers and a list of them.
    """

    name: str
    type: str  # 'string', 'int32', 'float32', 'float64', 'bool'
    size: int = 0
    unit: str = ''
    frame: str = ''
    required: bool = False
    repeats: bool = False

    def field(self) -> pa.Field:
        kind = {'string': pa.string(), 'bool': pa.bool_()}.get(self.type) or getattr(pa, self.type)()
        meta = {k: v for k, v in (('unit', self.unit), ('frame', self.frame)) if v}
        return pa.field(self.name, pa.list_(kind, self.size) if self.size else kind, not self.required, meta)


COLUMNS = (
    Column('sample_id', 'string', required=True),
    Column('image', 'string', unit='path relative to the index, or FILE.h5#DATASET/ROW', required=True),
    Column('split', 'string', unit='train, val or test', required=True, repeats=True),
    Column('subject', 'string', required=True, repeats=True),
    Column('sequence', 'string', unit='recording', repeats=True),
    Column('frame', 'int32', unit='number of the picture in its recording'),
    Column('time_s', 'float64', unit='s'),
    Column('camera', 'string', repeats=True),
    Column('device', 'string', repeats=True),
    Column('rig', 'string', unit='key of a rig in the metadata', repeats=True),
    Column('pog_screen_px', 'float64', 2, 'px', "screen, origin upper left, x to the user's right, y down"),
    Column('pog_plane_offset_mm', 'float64', 2, 'mm', "plane (u to the user's right, v down), offset rule"),
    Column('pog_plane_pose_mm', 'float64', 2, 'mm', "plane (u to the user's right, v down), calibrated pose"),
    Column('target_cam_mm', 'float64', 3, 'mm', 'camera'),
    Column('face_origin_mm', 'float64', 3, 'mm', 'camera'),
    Column('left_eye_mm', 'float64', 3, 'mm', "camera; the subject's left eye"),
    Column('right_eye_mm', 'float64', 3, 'mm', "camera; the subject's right eye"),
    Column('gaze', 'float64', 3, 'unit vector, eye to target', "the file's gaze_frame"),
    Column('head_rvec', 'float64', 3, 'Rodrigues vector, rad', 'camera'),
    Column('head_tvec_mm', 'float64', 3, 'mm', 'camera'),
    Column('head_pitchyaw_rad', 'float64', 2, 'rad', "direction of the face; the file's gaze_frame"),
    Column('norm_rotation', 'float64', 9, 'row-major R of Zhang 2018', 'camera to normalised camera'),
    Column('norm_scale', 'float64', unit='S = diag(1, 1, norm_scale)'),
    Column('face_box_px', 'float32', 4, 'px', 'stored picture, x1 y1 x2 y2'),
    Column('eye_landmarks_px', 'float32', 24, 'px', 'stored picture, 12 points 36..47 of the 68'),
    Column('pupil_landmarks_px', 'float32', 32, 'px', 'stored picture, 8 points of the right, 8 of the left pupil'),
    Column('eyes_open', 'bool', unit='false in a blink'),
)
BY_NAME = {column.name: column for column in COLUMNS}


def rig_to_json(rig: Rig) -> dict[str, Any]:
    """A rig as JSON values."""
    as_list = {name: getattr(rig, name) for name in Rig.__dataclass_fields__}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in as_list.items()}


def rig_from_json(values: Mapping[str, Any]) -> Rig:
    """The inverse of `rig_to_json`."""
    return Rig(**{name: value for name, value in values.items() if value is not None})


def check_conventions(gaze_frame: str | None, pose_rule: str | None, path: Path) -> None:
    """Refuse a frame of the gaze or a rule of the plane that does not exist, or is not declared."""
    for key, value, allowed in (('gaze_frame', gaze_frame, GAZE_FRAMES), ('pose_rule', pose_rule, POSE_RULES)):
        if value not in allowed:
            what = f'does not declare evg.{key}' if value is None else f'declares evg.{key} as {value!r}'
            raise IndexFileError(f'{path} {what}, which must be one of {", ".join(allowed)}: prepare the data again')


def declarations(schema: pa.Schema, path: Path) -> tuple[dict[str, str], dict[str, Rig], dict[str, Any]]:
    """What a file's metadata declare: all of it as text, its rigs, its info.

    Raises:
        IndexFileError: not an index, another version, an undeclared or unknown convention, a missing column, damage.
    """
    try:
        meta = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    except UnicodeDecodeError as error:
        raise IndexFileError(f'{path}: its metadata are not UTF-8 ({error}): prepare the data again') from error
    if 'evg.version' not in meta:
        raise IndexFileError(f'{path} is a Parquet file but not an evg index: its conventions are undeclared')
    if meta['evg.version'] != str(SCHEMA_VERSION):
        raise IndexFileError(
            f'{path} has index version {meta["evg.version"]}, this evg reads {SCHEMA_VERSION}: prepare the data again'
        )
    check_conventions(meta.get('evg.gaze_frame'), meta.get('evg.pose_rule'), path)
    missing = [column.name for column in COLUMNS if column.name not in schema.names]
    if missing:
        raise IndexFileError(f'{path} lacks the columns {", ".join(missing)}: prepare the data again')
    wrong = [c.name for c in COLUMNS if schema.field(c.name).type != c.field().type]
    if wrong:
        raise IndexFileError(
            f'{path}: {wrong[0]} is of type {schema.field(wrong[0]).type}, not {BY_NAME[wrong[0]].field().type}: '
            'prepare the data again'
        )
    if 'evg.dataset' not in meta:
        raise IndexFileError(f'{path} does not declare evg.dataset, the name of its data set: prepare the data again')
    try:
        rigs = {key: rig_from_json(value) for key, value in json.loads(meta['evg.rigs']).items()}
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise IndexFileError(
            f'{path} does not declare its cameras and screens (evg.rigs: {error!r}): prepare the data again'
        ) from error
    try:
        info = json.loads(meta.get('evg.info', '{}'))
    except (ValueError, RecursionError) as error:
        raise IndexFileError(f'{path}: evg.info is not JSON ({error!r}): prepare the data again') from error
    if not isinstance(info, dict):
        raise IndexFileError(f'{path}: evg.info is not a JSON object: prepare the data again')
    return meta, rigs, info
