"""A point on the virtual plane as two numbers: direct regression, the baseline of the heatmap."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from evg.codecs.precision import at_least_float32
from evg.geometry import InputFrame, VirtualPlane
from evg.registry import CODECS


@CODECS.register_module()
class VPPointCodec:
    """Virtual-plane px to a point relative to the plane's centre and back.

    Convention: point = (vp_px - vp_size_px / 2) / (vp width / 2), one scale for x and y, so that equal errors in mm
    weigh the same in both.

    Args:
        input_frame: `InputFrame` of the network's input, as an object or its arguments.
        vp_size_px: (width, height) of the virtual plane.
        ppm: virtual-plane px per mm.
    """

    label = 'gt_vp_px'
    needs = ('point',)

    def __init__(self, input_frame: InputFrame | dict, vp_size_px: tuple[int, int], ppm: float):
        self.input_frame = input_frame if isinstance(input_frame, InputFrame) else InputFrame(**input_frame)
        self.virtual_plane = VirtualPlane(vp_size_px, ppm)

    def describe(self) -> str:
        """What the coding amounts to, in one line."""
        vp = self.virtual_plane
        return (
            f'a point on the virtual plane of {vp.size_px[0]} x {vp.size_px[1]} px at {vp.ppm:g} px/mm = '
            f'{vp.size_mm[0]:.0f} x {vp.size_mm[1]:.0f} mm, in units of half its width'
        )

    def encode(self, vp_px: ArrayLike) -> dict[str, NDArray]:
        """Targets of one point.

        Args:
            vp_px: (2,) VP px.

        Returns:
            target_point (2,) and target_vp_px (2,), float32.
        """
        point_px = np.asarray(vp_px, np.float64)
        if not np.isfinite(point_px).all():
            raise ValueError(f'the virtual-plane point {point_px} is not finite')
        width, height = self.virtual_plane.size_px
        point = (point_px - (width / 2, height / 2)) / (width / 2)
        return {'target_point': point.astype(np.float32), 'target_vp_px': point_px.astype(np.float32)}

    def decode(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Points of a batch.

        Args:
            outputs: point (B, 2).

        Returns:
            pred_vp_px (B, 2) VP px, pred_plane_mm (B, 2) mm.
        """
        from_center_px = at_least_float32(outputs['point']) * (self.virtual_plane.size_px[0] / 2)
        half = from_center_px.new_tensor(self.virtual_plane.size_px) / 2
        return {'pred_vp_px': from_center_px + half, 'pred_plane_mm': from_center_px / self.virtual_plane.ppm}

    def mirror(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Raw outputs of a mirrored picture as those of the picture: x changes sign."""
        return {'point': outputs['point'] * outputs['point'].new_tensor([-1, 1])}

    def monitor(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The mean distance as a figure for the log.

        Args:
            outputs: raw outputs, see `decode`.
            targets: target_vp_px (B, 2) VP px.

        Returns:
            pog_vp_px (), VP px.
        """
        distance = self.decode(outputs)['pred_vp_px'] - targets['target_vp_px']
        return {'pog_vp_px': distance.norm(dim=1).mean()}
