"""Raw outputs to answers in numpy: what the codecs' `decode` does, without torch.

Each function takes the raw outputs and the arguments of its codec's constructor, as model.json holds them, and computes
in the same order and with the same number types as the codec, so that the two agree to float32's last digits
(tests/test_deploy_decode.py holds every codec to it). Shapes, units and frames are those of the codec.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evg.errors import UserError, did_you_mean
from evg.geometry import EyeModel, InputFrame, VirtualPlane, apply_affine, invert_affine, pitchyaw_to_vector
from evg.geometry.gaussian import radius_and_sigma

Outputs = Mapping[str, NDArray]
Decoded = dict[str, NDArray]
_LEAST = 1e-12


def decode(codecs: Mapping[str, Mapping[str, Any]], outputs: Outputs) -> Decoded:
    """Answers of a batch.

    Args:
        codecs: of `ModelFile`, by name: {'type': ..., its arguments}.
        outputs: raw outputs (B, ...) by name.

    Returns:
        pred_* (B, ...) as the codecs name them, points of the picture in px of the network's input (`*_input_px`).
    """
    decoded: Decoded = {}
    for codec in codecs.values():
        arguments = {name: value for name, value in codec.items() if name != 'type'}
        decoded.update(DECODERS[codec['type']](outputs, **arguments))
    return decoded


def check_codecs(codecs: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """See that `decode` knows every codec and has all its arguments.

    Raises:
        UserError: the message begins with `where`.
    """
    for name, codec in codecs.items():
        kind = codec['type']
        if kind not in DECODERS:
            hint = did_you_mean(kind, DECODERS)
            raise UserError(f'{where}: codec {name!r} is a {kind}, which cannot be decoded without torch{hint}')
        wanted = set(inspect.signature(DECODERS[kind]).parameters) - {'outputs'}
        given = set(codec) - {'type'}
        if wanted != given:
            raise UserError(
                f'{where}: codec {name!r} ({kind}) misses {sorted(wanted - given)} and has {sorted(given - wanted)} '
                'too much; export the model again with this version of evg'
            )


def vp_heatmap(
    outputs: Outputs,
    *,
    input_frame: Mapping[str, Any],
    vp_size_px: tuple[int, int],
    ppm: float,
    stride: int,
    fit: str,
    heatmap_hw: float,
    sigma: float | None,
    activation: str,
    read_out: str,
) -> Decoded:
    """`VPHeatmapCodec`."""
    plane = VirtualPlane(vp_size_px, ppm)
    grid_size = np.floor_divide(InputFrame(**input_frame).input_size, stride)
    logits = outputs['heatmap'].astype(np.float32)
    logits = logits.reshape(len(logits), -1)
    if activation == 'sigmoid':
        heatmap = _sigmoid(logits)
    else:
        density = 2 * np.pi * radius_and_sigma(heatmap_hw, sigma)[1] ** 2
        heatmap = np.minimum(_softmax(logits) * density, 1)
    index = logits.argmax(axis=1)  # of the logits: several cells of the heatmap can be at its limit of 1
    corners = _corners(np.arange(logits.shape[1]), grid_size[0])
    offsets = outputs.get('offset')
    if offsets is not None:
        offsets = offsets.astype(np.float32).reshape(len(logits), 2, -1)
    if read_out == 'expectation':
        weights = _softmax(-2 * np.logaddexp(0, -logits) if activation == 'sigmoid' else logits)
        cells = corners + (0.5 if offsets is None else offsets.transpose(0, 2, 1))
        cell = (weights[..., None] * cells).sum(axis=1)
    else:
        picked = 0.5 if offsets is None else offsets[np.arange(len(index)), :, index]
        cell = corners[index] + picked
    ratios = np.divide(grid_size, plane.size_px)
    cells_per_px = float(ratios[0] if fit == 'width' else ratios.min())
    half_vp, half_grid = np.divide(plane.size_px, 2, dtype=np.float32), np.divide(grid_size, 2, dtype=np.float32)
    vp_px = (cell - half_grid) / cells_per_px + half_vp
    return {
        'pred_vp_px': vp_px,
        'pred_plane_mm': (vp_px - half_vp) / plane.ppm,
        'pred_score': heatmap[np.arange(len(index)), index],
    }


def vp_point(outputs: Outputs, *, input_frame: Mapping[str, Any], vp_size_px: tuple[int, int], ppm: float) -> Decoded:
    """`VPPointCodec`."""
    plane = VirtualPlane(vp_size_px, ppm)
    from_center_px = _at_least_float32(outputs['point']) * (plane.size_px[0] / 2)
    half_vp = np.divide(plane.size_px, 2, dtype=np.float32)
    return {'pred_vp_px': from_center_px + half_vp, 'pred_plane_mm': from_center_px / plane.ppm}


def face_center(
    outputs: Outputs, *, input_frame: Mapping[str, Any], stride: int, heatmap_hw: float, sigma: float | None
) -> Decoded:
    """`FaceCenterCodec`."""
    logits = outputs['face_heatmap']
    index = logits.reshape(len(logits), -1).argmax(axis=1)
    cell = _corners(index, InputFrame(**input_frame).input_size[0] // stride)
    return {'pred_face_center_input_px': (cell + 0.5) * stride - 0.5}


def pitch_yaw(outputs: Outputs, *, input_frame: Mapping[str, Any], gaze_frame: str) -> Decoded:
    """`PitchYawCodec`."""
    return _directions(_at_least_float32(outputs['pitchyaw']))


def binned_pitch_yaw(
    outputs: Outputs, *, input_frame: Mapping[str, Any], gaze_frame: str, bins: int, limit_deg: float
) -> Decoded:
    """`BinnedPitchYawCodec`."""
    logits = _at_least_float32(outputs['pitchyaw_bins'])
    centers = ((np.arange(bins, dtype=logits.dtype) + 0.5) * 2 / bins - 1) * math.radians(limit_deg)
    return _directions(_softmax(logits) @ centers)


def landmark_heatmap(
    outputs: Outputs,
    *,
    input_frame: Mapping[str, Any],
    num_landmarks: int,
    stride: int,
    sigma: float,
    read_out: str,
    temperature: float,
    eye: Mapping[str, Any] | None,
) -> Decoded:
    """`LandmarkHeatmapCodec`."""
    maps = _at_least_float32(outputs['landmark_heatmap'])
    cells = _mean_cells(maps, temperature) if read_out == 'soft_argmax' else _parabola(maps)
    points_px = (cells + 0.5) * stride - 0.5
    peaks = np.clip(maps.max(axis=(2, 3)), 0, 1)
    decoded = {'pred_landmarks_input_px': points_px, 'pred_score': peaks.mean(axis=1)}
    if eye is not None:
        model = EyeModel(**eye)
        to_input = InputFrame(**input_frame).matrix(model.normaliser.size_px)
        decoded['pred_gaze'] = model.gaze(apply_affine(invert_affine(to_input), points_px))
    return decoded


DECODERS: dict[str, Callable[..., Decoded]] = {
    'BinnedPitchYawCodec': binned_pitch_yaw,
    'FaceCenterCodec': face_center,
    'LandmarkHeatmapCodec': landmark_heatmap,
    'PitchYawCodec': pitch_yaw,
    'VPHeatmapCodec': vp_heatmap,
    'VPPointCodec': vp_point,
}


def _at_least_float32(values: NDArray) -> NDArray:
    return values if values.dtype == np.float64 else values.astype(np.float32)


def _sigmoid(logits: NDArray) -> NDArray:
    with np.errstate(over='ignore'):  # exp(100) is inf in float32, and 1 / inf is right
        return 1 / (1 + np.exp(-logits))


def _softmax(logits: NDArray) -> NDArray:
    """Over the last axis."""
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _corners(index: NDArray, width: int) -> NDArray[np.float32]:
    """Row-major cell index (...) of a grid `width` cells wide to (column, row) (..., 2)."""
    return np.stack([index % width, index // width], axis=-1).astype(np.float32)


def _directions(pitchyaw_rad: NDArray) -> Decoded:
    return {'pred_gaze': pitchyaw_to_vector(pitchyaw_rad), 'pred_pitchyaw_rad': pitchyaw_rad}


def _mean_cells(maps: NDArray, temperature: float) -> NDArray:
    """Mean cells (B, K, 2) of the softmax of maps (B, K, H, W)."""
    weights = _softmax(temperature * maps.reshape(*maps.shape[:2], -1)).reshape(maps.shape)
    x, y = (np.arange(size, dtype=maps.dtype) for size in (maps.shape[3], maps.shape[2]))
    return np.stack([weights.sum(axis=2) @ x, weights.sum(axis=3) @ y], axis=-1)


def _parabola(maps: NDArray) -> NDArray:
    """Cells (B, K, 2) of the tops of parabolas through log(map) at the peak and beside it."""
    height, width = maps.shape[2:]
    flat = np.log(np.maximum(maps, _LEAST)).reshape(*maps.shape[:2], -1)
    index = flat.argmax(axis=2)
    column, row = np.clip(index % width, 1, width - 2), np.clip(index // width, 1, height - 2)
    tops = []
    for cell, step in ((column, 1), (row, width)):
        middle_index = (row * width + column)[..., None] + np.array([-step, 0, step])
        left, middle, right = np.moveaxis(np.take_along_axis(flat, middle_index, axis=2), 2, 0)
        curve = 2 * middle - left - right
        shift = np.where(curve > 0, (right - left) / (2 * np.maximum(curve, _LEAST)), 0)
        tops.append(cell + np.clip(shift, -1.5, 1.5))
    return np.stack(tops, axis=-1)
