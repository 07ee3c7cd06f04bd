"""A point on the virtual plane as a heatmap with a sub-cell offset: EVG's coding."""

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from evg.codecs.grid import cell_corners, gather_cells
from evg.geometry import InputFrame, VirtualPlane
from evg.geometry.gaussian import gaussian_heatmap, radius_and_sigma
from evg.registry import CODECS


@CODECS.register_module()
class VPHeatmapCodec:
    """Virtual-plane px to (heatmap, offset) and back.

    Convention:
        The centres of plane and grid coincide and the scale is the same in x and y:
        cell = (vp_px - vp_size_px / 2) * k + grid_size / 2. `fit='width'` is the original, k = grid width / plane
        width; rows of the plane that then lie outside the grid are coded at the border cell with an offset beyond 1, so
        that decode(encode(p)) = p on the whole plane. `fit='contain'` keeps every row and column.
        Cell (i, j) covers [i, i + 1) x [j, j + 1); offset = cell - floor(cell).

    Args:
        input_frame: `InputFrame` of the network's input, as an object or its arguments.
        vp_size_px: (width, height) of the virtual plane.
        ppm: virtual-plane px per mm.
        stride: input px per heatmap cell.
        fit: 'width' or 'contain'.
        heatmap_hw: box side in cells for CenterNet's radius rule (EVG: 20, which gives radius 5 and sigma 1.833).
        sigma: fixed sigma in cells instead of that rule.
        activation: what the logits are: 'sigmoid' (EVG: each cell for itself, for `HeatmapFocalLoss`) or 'softmax' (a
            distribution over all cells, for `HeatmapCrossEntropyLoss`).
        read_out: 'peak' (EVG: the highest cell plus its offset) or 'expectation' (the mean of `cell_distribution`,
            which has the smaller mean error where a network is unsure).
    """

    label = 'gt_vp_px'
    needs = ('heatmap',)

    def __init__(
        self,
        input_frame: InputFrame | dict,
        vp_size_px: tuple[int, int],
        ppm: float,
        stride: int = 4,
        fit: str = 'width',
        heatmap_hw: float = 20,
        sigma: float | None = None,
        activation: str = 'sigmoid',
        read_out: str = 'peak',
    ):
        self.input_frame = input_frame if isinstance(input_frame, InputFrame) else InputFrame(**input_frame)
        self.virtual_plane = VirtualPlane(vp_size_px, ppm)
        self.stride = stride
        width, height = self.input_frame.input_size
        if width % stride or height % stride:
            raise ValueError(f'the input size {width} x {height} px is no multiple of the stride {stride}')
        self.grid_size = (width // stride, height // stride)
        ratios = np.divide(self.grid_size, self.virtual_plane.size_px)
        if fit not in ('width', 'contain'):
            raise ValueError(f"fit must be 'width' (the original) or 'contain', not {fit!r}")
        if activation not in ('sigmoid', 'softmax'):
            raise ValueError(f"activation must be 'sigmoid' (the original) or 'softmax', not {activation!r}")
        if read_out not in ('peak', 'expectation'):
            raise ValueError(f"read_out must be 'peak' (the original) or 'expectation', not {read_out!r}")
        self.cells_per_px = float(ratios[0] if fit == 'width' else ratios.min())
        self.radius, self.sigma = radius_and_sigma(heatmap_hw, sigma)
        self.activation = activation
        self.read_out = read_out

    def describe(self) -> str:
        """What the coding amounts to, and whether the plane fits the grid; one line each."""
        vp, grid = self.virtual_plane, self.grid_size
        cell_mm = 1 / (self.cells_per_px * vp.ppm)
        lines = [
            f'virtual plane {vp.size_px[0]} x {vp.size_px[1]} px at {vp.ppm:g} px/mm = '
            f'{vp.size_mm[0]:.0f} x {vp.size_mm[1]:.0f} mm on a grid of {grid[0]} x {grid[1]} cells of '
            f'{cell_mm:.2f} mm; sigma {self.sigma:.2f} cells = {self.sigma * cell_mm:.1f} mm'
        ]
        outside = np.asarray(vp.size_px) * self.cells_per_px - grid
        for name, cells in zip(('columns', 'rows'), outside, strict=True):
            if cells > 1e-6:
                lines.append(
                    f'the virtual plane does not fit: {cells / 2:.2f} {name} at each side lie outside the grid and are '
                    "coded at its border (fit='contain' keeps them all)"
                )
        return '\n'.join(lines)

    def vp_to_cell(self, vp_px):
        """VP px (..., 2), numpy or torch, to continuous cells (..., 2)."""
        half_vp, half_grid = self._halves(vp_px)
        return (vp_px - half_vp) * self.cells_per_px + half_grid

    def cell_to_vp(self, cell):
        """Continuous cells (..., 2), numpy or torch, to VP px (..., 2); the inverse of `vp_to_cell`."""
        half_vp, half_grid = self._halves(cell)
        return (cell - half_grid) / self.cells_per_px + half_vp

    def _halves(self, like):
        """Half the sizes of plane and grid, of the kind of `like`."""
        halves = np.divide(self.virtual_plane.size_px, 2), np.divide(self.grid_size, 2)
        return tuple(like.new_tensor(half) for half in halves) if isinstance(like, Tensor) else halves

    def encode(self, vp_px: ArrayLike) -> dict[str, NDArray]:
        """Targets of one point.

        Args:
            vp_px: (2,) VP px, clamped to the plane.

        Returns:
            target_heatmap (1, grid height, grid width) float32 with peak 1; target_offset (2,) float32, cells;
            target_index () int64, row-major cell of the peak; target_vp_px (2,) float32.
        """
        point_px = np.asarray(vp_px, np.float64)
        cell = self.vp_to_cell(point_px)
        if not np.isfinite(cell).all():
            raise ValueError(f'the virtual-plane point {point_px} is not finite')
        column, row = (int(v) for v in np.clip(np.floor(cell), 0, np.subtract(self.grid_size, 1)))
        return {
            'target_heatmap': gaussian_heatmap(self.grid_size, (column, row), self.radius, self.sigma)[None],
            'target_offset': (cell - (column, row)).astype(np.float32),
            'target_index': np.int64(row * self.grid_size[0] + column),
            'target_vp_px': point_px.astype(np.float32),
        }

    def decode(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Points of a batch of raw outputs.

        Args:
            outputs: heatmap (B, 1, H, W) logits; offset (B, 2, H, W) cells, optional (0.5 without it).

        Returns:
            pred_vp_px (B, 2) VP px, pred_plane_mm (B, 2) mm, pred_score (B,), the height of the peak in 0..1.
        """
        # Of the logits: several cells of the heatmap can be at its limit of 1.
        index = outputs['heatmap'].float().flatten(1).argmax(dim=1)
        peak = self.heatmap(outputs).flatten(1).gather(1, index[:, None])[:, 0]
        if self.read_out == 'expectation':
            cell = self.expected_cell(outputs)
        else:
            offset = gather_cells(outputs['offset'].float(), index) if 'offset' in outputs else 0.5
            cell = cell_corners(index, self.grid_size[0]) + offset
        vp_px = self.cell_to_vp(cell)
        half_vp = vp_px.new_tensor(self.virtual_plane.size_px) / 2
        return {
            'pred_vp_px': vp_px,
            'pred_plane_mm': (vp_px - half_vp) / self.virtual_plane.ppm,
            'pred_score': peak,
        }

    def heatmap(self, outputs: dict[str, Tensor]) -> Tensor:
        """The heatmap (B, 1, H, W) in 0..1: the sigmoid, or the softmax relative to the peak of a perfect one."""
        logits = outputs['heatmap'].float()
        if self.activation == 'sigmoid':
            return logits.sigmoid()
        # A Gaussian that sums to 1 is 1 / (2 pi sigma^2) high.
        density = torch.softmax(logits.flatten(1), dim=1).view_as(logits)
        return (density * (2 * np.pi * self.sigma**2)).clamp(max=1)

    def cell_distribution(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The heatmap as a distribution over points, differentiable.

        Args:
            outputs: as for `decode`.

        Returns:
            weights (B, N) that sum to 1, and the cells with their offsets (B, N, 2). The weights are the softmax, or
            p^2 normalised where p is a sigmoid: the square keeps the many weak cells from pulling to the centre.
        """
        logits = outputs['heatmap'].float().flatten(1)
        if self.activation == 'sigmoid':
            logits = 2 * torch.nn.functional.logsigmoid(logits)
        corners = cell_corners(torch.arange(logits.shape[1], device=logits.device), self.grid_size[0])
        if 'offset' in outputs:
            cells = corners + outputs['offset'].float().flatten(2).transpose(1, 2)
        else:
            cells = (corners + 0.5).expand(len(logits), -1, -1)
        return torch.softmax(logits, dim=1), cells

    def expected_cell(self, outputs: dict[str, Tensor]) -> Tensor:
        """Mean cell (B, 2) of `cell_distribution`: a soft arg max."""
        weights, cells = self.cell_distribution(outputs)
        return torch.einsum('bn,bnc->bc', weights, cells)

    def mirror(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Raw outputs of a mirrored picture as those of the picture: x becomes grid width - x.

        Args:
            outputs: as for `decode`.

        Returns:
            heatmap and offset, those that were given.
        """
        mirrored: dict[str, Tensor] = {n: outputs[n].flip(3) for n in ('heatmap', 'offset') if n in outputs}
        if 'offset' in mirrored:
            # A point at i + x of cell i is at (width - 1 - i) + (1 - x).
            x, y = mirrored['offset'].split(1, dim=1)
            mirrored['offset'] = torch.cat([1 - x, y], dim=1)
        return mirrored

    def monitor(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The original's "pog loss" as a figure for the log.

        Args:
            outputs: raw outputs, see `decode`.
            targets: target_vp_px (B, 2) VP px.

        Returns:
            pog_vp_px (), mean distance of the decoded points in VP px, without gradient.
        """
        distance = self.decode(outputs)['pred_vp_px'] - targets['target_vp_px']
        return {'pog_vp_px': distance.norm(dim=1).mean()}
