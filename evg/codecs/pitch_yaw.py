"""The direction of the gaze as two angles, regressed or as distributions over bins."""

import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from evg.codecs.precision import at_least_float32
from evg.geometry import InputFrame, vector_to_pitchyaw
from evg.registry import CODECS


def pitchyaw_to_gaze(pitchyaw_rad: Tensor) -> Tensor:
    """Unit vectors (..., 3) of (pitch, yaw) (..., 2), differentiable; `evg.geometry.pitchyaw_to_vector` in torch."""
    pitch, yaw = pitchyaw_rad.unbind(-1)
    return -torch.stack([pitch.cos() * yaw.sin(), pitch.sin(), pitch.cos() * yaw.cos()], dim=-1)


def angle_between(a: Tensor, b: Tensor) -> Tensor:
    """Angle (...) in radians between vectors (..., 3), with a finite gradient everywhere, also where they agree."""
    cross = torch.linalg.cross(a, b).square().sum(dim=-1)
    # Rounded off at 0, where the gradient of a length does not exist: 1e-6 rad.
    return torch.atan2((cross + 1e-12).sqrt(), (a * b).sum(dim=-1))


@CODECS.register_module()
class PitchYawCodec:
    """A unit gaze vector to (pitch, yaw) and back.

    Convention: vectors point from eye to target; pitch = asin(-n_y), yaw = atan2(-n_x, -n_z), radians, of the frame
    that the labels are in. The answer is in the same frame.

    Args:
        input_frame: `InputFrame` of the network's input, as an object or its arguments.
        gaze_frame: the frame of the labels, one of `evg.datasets.index.GAZE_FRAMES`; a checkpoint carries it.
    """

    label = 'gt_gaze'
    needs: tuple[str, ...] = ('pitchyaw',)

    def __init__(self, input_frame: InputFrame | dict, gaze_frame: str):
        self.input_frame = input_frame if isinstance(input_frame, InputFrame) else InputFrame(**input_frame)
        self.gaze_frame = gaze_frame

    def describe(self) -> str:
        """What the coding amounts to, in one line."""
        width, height = self.input_frame.input_size
        return f'gaze vectors of the frame {self.gaze_frame!r} as (pitch, yaw), from pictures of {width} x {height} px'

    def encode(self, gaze: ArrayLike) -> dict[str, NDArray]:
        """Targets of one gaze vector.

        Args:
            gaze: (3,) eye to target, any length but 0.

        Returns:
            target_pitchyaw_rad (2,) float32.
        """
        if not np.isfinite(gaze).all():
            raise ValueError(f'the gaze vector {np.asarray(gaze)} is not finite')
        return {'target_pitchyaw_rad': vector_to_pitchyaw(gaze).astype(np.float32)}

    def pitchyaw(self, outputs: dict[str, Tensor]) -> Tensor:
        """(pitch, yaw) (B, 2) rad of raw outputs, differentiable."""
        return at_least_float32(outputs['pitchyaw'])

    def decode(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Gaze vectors of a batch.

        Args:
            outputs: pitchyaw (B, 2) rad.

        Returns:
            pred_gaze (B, 3) unit vectors and pred_pitchyaw_rad (B, 2), both in `gaze_frame`.
        """
        angles = self.pitchyaw(outputs)
        return {'pred_gaze': pitchyaw_to_gaze(angles), 'pred_pitchyaw_rad': angles}

    def mirror(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Raw outputs of a mirrored picture as those of the picture: yaw changes sign."""
        return {'pitchyaw': outputs['pitchyaw'] * outputs['pitchyaw'].new_tensor([1, -1])}

    def monitor(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The mean angle between prediction and truth as a figure for the log.

        Args:
            outputs: raw outputs, see `decode`.
            targets: target_pitchyaw_rad (B, 2).

        Returns:
            gaze_deg (), degrees.
        """
        truth = pitchyaw_to_gaze(targets['target_pitchyaw_rad'])
        return {'gaze_deg': angle_between(self.decode(outputs)['pred_gaze'], truth).mean().rad2deg()}


@CODECS.register_module()
class BinnedPitchYawCodec(PitchYawCodec):
    """Each angle as a distribution over equal bins, read out as its expectation (L2CS-Net, Abdelrahman et al., 2022).

    Convention: as `PitchYawCodec`. Bin k of an angle covers [-limit + k w, -limit + (k + 1) w), w = 2 limit / bins, and
    stands for its middle (L2CS-Net's code takes the lower edge, half a bin less). Angles beyond the limit fall into the
    outermost bin. L2CS-Net: 90 bins to 180 deg on Gaze360, 28 bins to 42 deg on MPIIFaceGaze.

    Args:
        input_frame: see `PitchYawCodec`.
        gaze_frame: see `PitchYawCodec`.
        bins: number of bins per angle.
        limit_deg: the bins cover plus and minus this many degrees.
    """

    needs = ('pitchyaw_bins',)

    def __init__(self, input_frame: InputFrame | dict, gaze_frame: str, bins: int = 90, limit_deg: float = 180.0):
        super().__init__(input_frame, gaze_frame)
        if bins < 2 or not limit_deg > 0:
            raise ValueError(f'at least 2 bins and a positive limit_deg are needed, not {bins} and {limit_deg}')
        self.bins = bins
        self.limit_rad = math.radians(limit_deg)

    def describe(self) -> str:
        """What the coding amounts to, in one line."""
        limit = math.degrees(self.limit_rad)
        return f'{super().describe()}; {self.bins} bins of {2 * limit / self.bins:.2f} deg to +-{limit:.0f} deg'

    def encode(self, gaze: ArrayLike) -> dict[str, NDArray]:
        """Targets of one gaze vector: those of `PitchYawCodec`, and target_bins (2,) int64."""
        targets = super().encode(gaze)
        scaled = (vector_to_pitchyaw(gaze) + self.limit_rad) * self.bins / (2 * self.limit_rad)
        return {**targets, 'target_bins': np.clip(np.floor(scaled), 0, self.bins - 1).astype(np.int64)}

    def pitchyaw(self, outputs: dict[str, Tensor]) -> Tensor:
        """Expected (pitch, yaw) (B, 2) rad of pitchyaw_bins (B, 2, bins) logits, differentiable."""
        logits = at_least_float32(outputs['pitchyaw_bins'])
        index = torch.arange(self.bins, dtype=logits.dtype, device=logits.device)
        centers = ((index + 0.5) * 2 / self.bins - 1) * self.limit_rad
        return torch.softmax(logits, dim=-1) @ centers

    def mirror(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Raw outputs of a mirrored picture as those of the picture: the bins of yaw in reverse."""
        pitch, yaw = outputs['pitchyaw_bins'].split(1, dim=1)
        return {'pitchyaw_bins': torch.cat([pitch, yaw.flip(2)], dim=1)}
