"""The face's centre in the picture as a heatmap: EVG's second task."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from evg.codecs.grid import cell_corners
from evg.geometry import InputFrame
from evg.geometry.gaussian import gaussian_heatmap, radius_and_sigma
from evg.registry import CODECS


@CODECS.register_module()
class FaceCenterCodec:
    """Face centre in input px to a heatmap and back.

    Convention:
        Input px have pixel centres at integers, so cell = (px + 0.5) / stride. There is no offset head: a decoded
        centre is the middle of a cell. A face outside the picture has an empty heatmap.

    Args:
        input_frame: `InputFrame` of the network's input, as an object or its arguments.
        stride: input px per heatmap cell.
        heatmap_hw: box side in cells for CenterNet's radius rule. EVG draws the face with the radius of the gaze.
        sigma: fixed sigma in cells instead of that rule.
    """

    label = 'gt_face_center_input_px'
    needs = ('face_heatmap',)
    auxiliary = True

    def __init__(
        self, input_frame: InputFrame | dict, stride: int = 4, heatmap_hw: float = 20, sigma: float | None = None
    ):
        self.input_frame = input_frame if isinstance(input_frame, InputFrame) else InputFrame(**input_frame)
        self.stride = stride
        width, height = self.input_frame.input_size
        self.grid_size = (width // stride, height // stride)
        self.radius, self.sigma = radius_and_sigma(heatmap_hw, sigma)

    def describe(self) -> str:
        """What the coding amounts to, in one line."""
        return f'face centre on a grid of {self.grid_size[0]} x {self.grid_size[1]} cells, sigma {self.sigma:.2f} cells'

    def encode(self, center_input_px: ArrayLike) -> dict[str, NDArray]:
        """Targets of one face.

        Args:
            center_input_px: (2,) input px.

        Returns:
            target_face_heatmap (1, grid height, grid width) float32, peak 1.
        """
        center_px = np.asarray(center_input_px, np.float64)
        cell = np.floor((center_px + 0.5) / self.stride)
        if not np.isfinite(cell).all():
            raise ValueError(f'the face centre {center_px} is not finite')
        inside = np.all((cell >= 0) & (cell < self.grid_size))
        if not inside:
            return {'target_face_heatmap': np.zeros((1, self.grid_size[1], self.grid_size[0]), np.float32)}
        center = (int(cell[0]), int(cell[1]))
        return {'target_face_heatmap': gaussian_heatmap(self.grid_size, center, self.radius, self.sigma)[None]}

    def decode(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Face centres of a batch.

        Args:
            outputs: face_heatmap (B, 1, H, W) logits.

        Returns:
            pred_face_center_input_px (B, 2) input px.
        """
        index = outputs['face_heatmap'].flatten(1).argmax(dim=1)
        cell = cell_corners(index, self.grid_size[0])
        return {'pred_face_center_input_px': (cell + 0.5) * self.stride - 0.5}

    def mirror(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Raw outputs of a mirrored picture as those of the picture."""
        return {'face_heatmap': outputs['face_heatmap'].flip(3)}
