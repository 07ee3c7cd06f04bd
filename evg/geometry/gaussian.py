"""Gaussian targets and the rules for their radius.

Convention of this module (all functions): heatmap cells, column right, row down; sizes are (width, height).
"""

import math

import numpy as np
from numpy.typing import NDArray


def centernet_radius(box_size: tuple[float, float], min_overlap: float = 0.7) -> float:
    """Radius within which a shifted box keeps an IoU of `min_overlap`, in cells.

    CenterNet's own variant (utils/image.py of xingyizhou/CenterNet): its three quadratics divide by 2 and not by 2a, so
    it differs from CornerNet's and mmdetection's. EVG calls it with 20 x 20 and gets 5.466.

    Args:
        box_size: (width, height) of the box in cells.
        min_overlap: IoU in 0..1.

    Returns:
        The smallest of the three solutions, not truncated.
    """
    width, height = box_size
    total, area = width + height, width * height
    quadratics = (
        (1.0, total, area * (1 - min_overlap) / (1 + min_overlap)),
        (4.0, 2 * total, area * (1 - min_overlap)),
        (4 * min_overlap, -2 * min_overlap * total, area * (min_overlap - 1)),
    )
    return min((b + math.sqrt(b * b - 4 * a * c)) / 2 for a, b, c in quadratics)


def gaussian_heatmap(
    grid_size: tuple[int, int], center: tuple[int, int], radius: int, sigma: float
) -> NDArray[np.float32]:
    """A Gaussian around one cell, cut off at `radius` and at the border; its peak is exactly 1.

    Args:
        grid_size: (width, height) in cells.
        center: (column, row) of the peak.
        radius: half width of the drawn square, cells.
        sigma: standard deviation, cells.

    Returns:
        (height, width) float32.
    """
    width, height = grid_size
    column, row = center
    heatmap = np.zeros((height, width), np.float32)
    x = np.arange(max(column - radius, 0), min(column + radius + 1, width))
    y = np.arange(max(row - radius, 0), min(row + radius + 1, height))
    if x.size and y.size:
        falloff_x = np.exp(-((x - column) ** 2) / (2 * sigma**2))
        falloff_y = np.exp(-((y - row) ** 2) / (2 * sigma**2))
        heatmap[y[0] : y[-1] + 1, x[0] : x[-1] + 1] = np.outer(falloff_y, falloff_x)
    return heatmap


def radius_and_sigma(heatmap_hw: float, sigma: float | None) -> tuple[int, float]:
    """The drawn radius and the sigma, in cells.

    Args:
        heatmap_hw: box side for CenterNet's radius rule; used where `sigma` is None (sigma = (2 radius + 1) / 6).
        sigma: a fixed sigma; the radius is then 3 sigma.
    """
    if sigma is None:
        radius = max(0, int(centernet_radius((math.ceil(heatmap_hw), math.ceil(heatmap_hw)))))
        return radius, (2 * radius + 1) / 6
    if not sigma > 0:
        raise ValueError(f'sigma must be positive (cells), not {sigma}')
    return math.ceil(3 * sigma), float(sigma)
