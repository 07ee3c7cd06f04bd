"""Cells of a heatmap as tensors, shared by the codecs and heads."""

import torch
from torch import Tensor


def cell_corners(index: Tensor, width: int) -> Tensor:
    """Row-major cell index (...) of a grid `width` cells wide to (column, row) (..., 2) float32."""
    return torch.stack([index % width, torch.div(index, width, rounding_mode='floor')], dim=-1).float()


def gather_cells(maps: Tensor, index: Tensor) -> Tensor:
    """Values (B, C) of maps (B, C, H, W) at row-major cells (B,)."""
    flat = maps.flatten(2)
    return flat.gather(2, index[:, None, None].expand(-1, flat.shape[1], 1)).squeeze(2)
