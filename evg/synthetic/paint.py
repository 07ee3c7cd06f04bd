"""Drawing tools: projection, curves, soft polygons on a float picture."""

import cv2
import numpy as np
from numpy.typing import NDArray


def project(points_mm, camera_matrix) -> NDArray[np.float64]:
    """Camera-frame points (..., 3), mm, to px (..., 2)."""
    image = np.asarray(points_mm, np.float64) @ np.asarray(camera_matrix).T
    return image[..., :2] / image[..., 2:]


def fixed(points_px) -> NDArray[np.int32]:
    """Points in OpenCV's fixed point of 4 fractional bits, for `shift=4`."""
    return np.round(np.asarray(points_px) * 16).astype(np.int32)


def smooth_closed(points, per_segment: int = 6) -> NDArray[np.float64]:
    """Closed Catmull-Rom curve through points (n, d)."""
    points = np.asarray(points, np.float64)
    p0, p1, p2, p3 = (np.roll(points, shift, axis=0)[:, None] for shift in (1, 0, -1, -2))
    t = np.linspace(0, 1, per_segment, endpoint=False)[None, :, None]
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    return curve.reshape(-1, points.shape[1])


def mix(region, weight, colour) -> None:
    """region += weight * (colour - region), in place.

    Args:
        region: (h, w, 3) float32, a view into the canvas.
        weight: (h, w) float32, 0..1.
        colour: (3,), or anything that broadcasts to the region.
    """
    layer = np.asarray(colour, np.float32)
    if layer.shape != region.shape:
        layer = np.empty(region.shape, np.float32)
        layer[:] = colour
    region[:] = cv2.blendLinear(np.ascontiguousarray(region), layer, 1 - weight, weight)


def blend_polygon(canvas, points_px, colour, blur_px: float = 0.0, strength: float = 1.0) -> None:
    """Lay a polygon over the canvas (H, W, 3), softly, in place.

    Args:
        canvas: (H, W, 3) float32.
        points_px: (n, 2) outline.
        colour: (3,), or a small picture (h, w, 3) that is stretched over the outline's box.
        blur_px: spread of the soft edge.
        strength: opacity.
    """
    height, width = canvas.shape[:2]
    pad = int(3 * blur_px) + 2
    low = np.maximum(np.floor(points_px.min(axis=0)) - pad, 0).astype(int)
    high = np.minimum(np.ceil(points_px.max(axis=0)) + pad + 1, [width, height]).astype(int)
    if (high - low < 1).any():
        return
    # A very soft edge needs few pixels: draw it small, enlarge it.
    step = max(1, int(blur_px / 1.5))
    across, down = -(-(high - low) // step)
    mask = np.zeros((down, across), np.uint8)
    cv2.fillPoly(mask, [fixed((points_px - low + 0.5) / step - 0.5)], 255, cv2.LINE_AA, 4)
    if blur_px > 0.3:
        mask = cv2.GaussianBlur(mask, (0, 0), blur_px / step)
    if step > 1:
        mask = cv2.resize(mask, (int(across) * step, int(down) * step), interpolation=cv2.INTER_LINEAR)
        mask = mask[: high[1] - low[1], : high[0] - low[0]]
    window = (slice(low[1], high[1]), slice(low[0], high[0]))
    colour = np.asarray(colour, np.float32)
    if colour.ndim > 1:
        start = points_px.min(axis=0)
        scale = np.divide(colour.shape[1::-1], np.maximum(points_px.max(axis=0) - start, 1))
        shift = (low - start) * scale - 0.5
        place = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        colour = cv2.warpAffine(colour, place, mask.shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    mix(canvas[window], mask.astype(np.float32) * np.float32(strength / 255), colour)


def blend_ring(canvas, outer_px, inner_px, colour, strength: float = 1.0) -> None:
    """The area between two closed outlines (n, 2), in place."""
    height, width = canvas.shape[:2]
    low = np.maximum(np.floor(outer_px.min(axis=0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(outer_px.max(axis=0)).astype(int) + 3, [width, height])
    if (high - low < 1).any():
        return
    mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    cv2.fillPoly(mask, [fixed(outer_px - low), fixed(inner_px - low)], 255, cv2.LINE_AA, 4)
    mix(canvas[low[1] : high[1], low[0] : high[0]], mask.astype(np.float32) * np.float32(strength / 255), colour)


def blend_lines(canvas, lines_px, colour, width_px: float, strength: float = 1.0) -> None:
    """Open polylines [(n, 2), ...] of one colour (3,) and width over the canvas, in place."""
    height, width = canvas.shape[:2]
    points = np.vstack(lines_px)
    low = np.maximum(np.floor(points.min(axis=0) - width_px) - 2, 0).astype(int)
    high = np.minimum(np.ceil(points.max(axis=0) + width_px) + 3, [width, height]).astype(int)
    if (high - low < 1).any():
        return
    mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    cv2.polylines(mask, [fixed(p - low) for p in lines_px], False, 255, max(1, round(width_px)), cv2.LINE_AA, 4)
    # A line thinner than a pixel is a fainter one.
    weight = mask.astype(np.float32) * np.float32(strength * min(width_px, 1) / 255)
    mix(canvas[low[1] : high[1], low[0] : high[0]], weight, colour)
