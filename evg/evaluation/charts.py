"""Charts of errors as BGR pictures, drawn by matplotlib without its global state."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Theme:
    """Colours of a chart."""

    back: str
    panel: str
    line: str
    text: str
    curves: tuple[str, ...]
    heat: str  # matplotlib colour map, from no error to much


DARK = Theme('#1b1d20', '#272a2e', '#3f444a', '#e1e5e8', ('#ffd628', '#7fb2d9', '#8cd078', '#f03a3a'), 'inferno')
LIGHT = Theme('#ffffff', '#f6f7f8', '#d9dde1', '#24292e', ('#c2410c', '#2563a6', '#2f7d32', '#b3261e'), 'YlOrRd')


def error_map(
    points_px: ArrayLike,
    error: ArrayLike,
    size_px: tuple[float, float],
    unit: str,
    cells: int = 16,
    theme: Theme = DARK,
) -> Image:
    """Mean error by place on the screen.

    Args:
        points_px: (N, 2) true points, screen px.
        error: (N,) in `unit`; NaN is left out, and so are points outside the screen.
        size_px: (width, height) of the screen.
        unit: of the error, for the legend.
        cells: columns; cells are about square. A cell without a point is empty.
        theme: colours.
    """
    points, errors = np.asarray(points_px, np.float64), np.asarray(error, np.float64)
    shape = np.array([cells, max(1, round(cells * size_px[1] / size_px[0]))])
    with np.errstate(invalid='ignore'):
        place = np.floor(points / size_px * shape)
        keep = np.isfinite(errors) & ((place >= 0) & (place < shape)).all(axis=1)
    column, row = place[keep].astype(int).T
    count = np.bincount(row * cells + column, minlength=shape.prod())
    total = np.bincount(row * cells + column, errors[keep], shape.prod())
    mean = np.divide(total, count, out=np.full(count.size, np.nan), where=count > 0).reshape(shape[::-1])
    figure, axes = _chart(theme)
    shown = axes.imshow(mean, extent=(0, size_px[0], size_px[1], 0), cmap=theme.heat, vmin=0)
    bar = figure.colorbar(shown, ax=axes, fraction=0.03, pad=0.02)
    bar.set_label(f'mean error, {unit}', color=theme.text)
    bar.ax.tick_params(colors=theme.text, labelsize=9)
    axes.set(xlabel='screen x, px', ylabel='screen y, px', title=f'Mean error by true point, {keep.sum():,} samples')
    return _pixels(figure)


def error_curve(errors: Mapping[str, ArrayLike], unit: str, theme: Theme = DARK) -> Image:
    """Cumulative error: share of samples with at most that error, a curve (N,) for each name; a NaN is never below."""
    figure, axes = _chart(theme)
    end = 0.0
    axes.set_prop_cycle(color=theme.curves)
    for name, column in errors.items():
        values = np.asarray(column, np.float64)
        known = np.sort(values[np.isfinite(values)])
        share = np.arange(1, known.size + 1) / max(values.size, 1)
        label = f'{name}: no value'
        if known.size:
            end = max(end, float(np.percentile(known, 99)))
            label = f'{name}: median {np.median(known):.3g}, mean {known.mean():.3g} {unit}'
        axes.step(np.append(0, known), np.append(0, share), where='post', label=label, linewidth=1.8)
    axes.set(xlim=(0, end or 1), ylim=(0, 1), xlabel=f'error, {unit}', ylabel='share of samples')
    axes.set_title('Cumulative error')
    axes.grid(color=theme.line, linewidth=0.6)
    axes.legend(loc='lower right', frameon=False, labelcolor=theme.text, fontsize=9)
    return _pixels(figure)


def _chart(theme: Theme) -> tuple[Figure, Axes]:
    """An empty chart in the colours of the sample sheets, 760 x 460 px."""
    figure = Figure((7.6, 4.6), dpi=100, facecolor=theme.back, layout='constrained')
    axes = figure.add_subplot(facecolor=theme.panel)
    for part in (axes.title, axes.xaxis.label, axes.yaxis.label):
        part.set_color(theme.text)
    axes.title.set_fontsize(11)
    axes.tick_params(colors=theme.text, labelsize=9)
    axes.spines[:].set_color(theme.line)
    return figure, axes


def _pixels(figure: Figure) -> Image:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., 2::-1])
