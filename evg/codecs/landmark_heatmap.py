"""Landmarks as one heatmap each, read out by a soft arg max or by the parabola through the peak; gaze from them."""

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from evg.codecs.grid import cell_corners
from evg.codecs.precision import at_least_float32
from evg.geometry import EyeModel, InputFrame, apply_affine, invert_affine
from evg.registry import CODECS

_LEAST = 1e-12  # below the peaks' neighbours of any Gaussian of sigma >= 0.2 cells


@CODECS.register_module()
class LandmarkHeatmapCodec:
    """Landmarks in input px to heatmaps and back (abnormalstudent/GazeEstimation, Hourglass.ipynb).

    Convention:
        Input px have pixel centres at integers, so the middle of cell i is at (i + 0.5) * stride - 0.5 px. A map is
        exp(-d^2 / (2 sigma^2)), d the distance in cells from the landmark, which need not lie on a cell's middle. The
        original's earlier targets exp(-d^2 / 10) and exp(-d^2 / 1.76) are sigma = 5 ** 0.5 and 0.88 ** 0.5.

    Args:
        input_frame: `InputFrame` of the network's input, as an object or its arguments.
        num_landmarks: landmarks, one map each; the original has 8 points of the pupil's rim.
        stride: input px per cell.
        sigma: of the Gaussians, cells.
        read_out: 'soft_argmax' (the original: the mean cell of softmax(temperature * map), which at the original's 100
            is almost the highest cell) or 'parabola' (through the logarithms of the peak and its neighbours, exact for
            a Gaussian).
        temperature: of the soft arg max.
        eye: `EyeModel` of the patch, an object or its arguments; the 8 landmarks, the rim of a pupil, then give a gaze
            vector, too. None where the patch is not a normalised eye.
    """

    label = 'gt_landmarks_input_px'
    needs = ('landmark_heatmap',)

    def __init__(
        self,
        input_frame: InputFrame | dict,
        num_landmarks: int = 8,
        stride: int = 1,
        sigma: float = 1.0,
        read_out: str = 'soft_argmax',
        temperature: float = 100.0,
        eye: EyeModel | dict | None = None,
    ):
        self.input_frame = input_frame if isinstance(input_frame, InputFrame) else InputFrame(**input_frame)
        if not sigma > 0:
            raise ValueError(f'sigma must be positive (cells), not {sigma}')
        if read_out not in ('soft_argmax', 'parabola'):
            raise ValueError(f"read_out must be 'soft_argmax' (the original) or 'parabola', not {read_out!r}")
        self.num_landmarks = num_landmarks
        self.stride = stride
        width, height = self.input_frame.input_size
        self.grid_size = (width // stride, height // stride)
        self.sigma = sigma
        self.read_out = read_out
        self.temperature = temperature
        self.eye = eye if eye is None or isinstance(eye, EyeModel) else EyeModel(**eye)

    def describe(self) -> str:
        """What the coding amounts to, in one line."""
        width, height = self.grid_size
        text = f'{self.num_landmarks} landmarks on a grid of {width} x {height} cells, sigma {self.sigma:.2f} cells'
        if self.eye is None:
            return text
        return f'{text}; gaze in the frame {self.eye.normaliser.gaze_frame!r}, kappa {self.eye.kappa_deg} deg'

    def encode(self, landmarks_input_px: ArrayLike) -> dict[str, NDArray]:
        """Targets of one picture.

        Args:
            landmarks_input_px: (K, 2) or flat (2 K,), input px; those outside the picture have (almost) empty maps.

        Returns:
            target_landmark_heatmap (K, grid height, grid width) and target_landmarks_input_px (K, 2), float32.
        """
        points_px = np.asarray(landmarks_input_px, np.float64).reshape(-1, 2)
        if len(points_px) != self.num_landmarks:
            raise ValueError(f'{self.num_landmarks} landmarks are expected, not {len(points_px)}')
        if not np.isfinite(points_px).all():
            raise ValueError('a landmark is not finite')
        cells = (points_px + 0.5) / self.stride - 0.5
        width, height = self.grid_size
        x = np.exp(-((np.arange(width) - cells[:, :1]) ** 2) / (2 * self.sigma**2))
        y = np.exp(-((np.arange(height) - cells[:, 1:]) ** 2) / (2 * self.sigma**2))
        return {
            'target_landmark_heatmap': (y[:, :, None] * x[:, None, :]).astype(np.float32),
            'target_landmarks_input_px': points_px.astype(np.float32),
        }

    def decode(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Landmarks of a batch.

        Args:
            outputs: landmark_heatmap (B, K, H, W), as trained: 1 at a landmark, 0 far from it.

        Returns:
            pred_landmarks_input_px (B, K, 2) input px; pred_score (B,), the mean height of the peaks in 0..1. With
            `eye` pred_gaze (B, 3), unit vectors in the frame of its normaliser.
        """
        maps = at_least_float32(outputs['landmark_heatmap'])
        points_px = self._points(maps)
        peaks = maps.flatten(2).amax(dim=2).clamp(0, 1)
        decoded = {'pred_landmarks_input_px': points_px, 'pred_score': peaks.mean(dim=1)}
        if self.eye is not None:
            to_input = self.input_frame.matrix(self.eye.normaliser.size_px)
            rim_px = apply_affine(invert_affine(to_input), points_px.detach().cpu().double().numpy())
            decoded['pred_gaze'] = torch.from_numpy(self.eye.gaze(rim_px)).to(points_px.device)
        return decoded

    def _points(self, maps: Tensor) -> Tensor:
        """Landmarks (B, K, 2), input px, of maps (B, K, H, W)."""
        cells = self._soft_argmax(maps) if self.read_out == 'soft_argmax' else _parabola(maps)
        return (cells + 0.5) * self.stride - 0.5

    def _soft_argmax(self, maps: Tensor) -> Tensor:
        """Mean cells (B, K, 2) of the maps' softmax."""
        weights = torch.softmax(self.temperature * maps.flatten(2), dim=2).view_as(maps)
        x = torch.arange(maps.shape[3], dtype=maps.dtype, device=maps.device)
        y = torch.arange(maps.shape[2], dtype=maps.dtype, device=maps.device)
        return torch.stack([weights.sum(dim=2) @ x, weights.sum(dim=3) @ y], dim=-1)

    def monitor(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The mean distance of the landmarks as a figure for the log.

        Args:
            outputs: raw outputs, see `decode`.
            targets: target_landmarks_input_px (B, K, 2).

        Returns:
            landmarks_input_px (), input px.
        """
        maps = at_least_float32(outputs['landmark_heatmap'])
        distance = self._points(maps) - targets['target_landmarks_input_px']
        return {'landmarks_input_px': distance.norm(dim=-1).mean()}


def _parabola(maps: Tensor) -> Tensor:
    """Cells (B, K, 2) of the tops of parabolas through log(map) at the peak and beside it, at most half a cell away."""
    height, width = maps.shape[2:]
    logs = maps.clamp(min=_LEAST).log()
    flat = logs.flatten(2)
    # The three points lie inside the map.
    corner = cell_corners(flat.argmax(dim=2), width).long()
    column, row = corner[..., 0].clamp(1, width - 2), corner[..., 1].clamp(1, height - 2)
    tops = []
    for cell, step in ((column, 1), (row, width)):
        index = row * width + column
        left, middle, right = (flat.gather(2, (index + move)[..., None])[..., 0] for move in (-step, 0, step))
        curve = 2 * middle - left - right
        shift = torch.where(curve > 0, (right - left) / (2 * curve.clamp(min=_LEAST)), torch.zeros_like(curve))
        tops.append(cell + shift.clamp(-1.5, 1.5))
    return torch.stack(tops, dim=-1)
