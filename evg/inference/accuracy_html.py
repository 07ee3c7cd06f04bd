"""The report of an accuracy test as one HTML page, light and dark; no other file and no network is needed."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --back: #fff; --panel: #f6f7f8; --line: #cfd5da; --text: #1f2428; --muted: #5d666f;
  --target: #b3261e; --mean: #8a5a00; --dot: #2563a6; }
@media (prefers-color-scheme: dark) { :root { --back: #1b1d20; --panel: #24272b; --line: #4a5057; --text: #e1e5e8;
  --muted: #9aa4ad; --target: #ff7a70; --mean: #ffd628; --dot: #7fb2d9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 32px 24px 64px; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 36px 0 12px; }
.note { color: var(--muted); font-size: 13px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 20px 0; }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.card b { display: block; font-size: 25px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.card b small { font-size: 15px; font-weight: 500; color: var(--muted); }
.card span { color: var(--muted); font-size: 13px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 18px; margin: 16px 0; font-size: 14px; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--muted); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; } tfoot td { font-weight: 600; }
svg { width: 100%; height: auto; display: block; }
.screen { fill: var(--panel); stroke: var(--line); } .target { fill: none; stroke: var(--target); }
.target-dot { fill: var(--target); } .mean { fill: var(--mean); } .error { stroke: var(--mean); }
.ellipse { fill: var(--mean); fill-opacity: .12; stroke: var(--mean); } .sample { fill: var(--dot); fill-opacity: .45; }
text { fill: var(--muted); font: 600 1px system-ui, sans-serif; }
"""
_LEGEND = (
    'Circle: target, with its number and its error in mm. Large dot: mean of the samples. Ellipse: two standard '
    'deviations. Small dots: samples.'
)
_NOTE = (
    'Error: distance of the mean of the samples at a point from the point (accuracy). Sample error: mean distance of '
    'the samples. RMS-S2S: root of the mean squared distance of neighbouring samples; SD: of the samples from their '
    'mean (precision). Lost: samples without a gaze. Angles are seen from the eye. Means are plain means over the '
    'points; of x and y, of absolute values. Definitions: Holmqvist, Nyström, Mulvey, ETRA 2012.'
)
_MAX_DOTS = 120
_TARGET_RADIUS, _MEAN_RADIUS, _TEXT_SIZE = 4, 2, 7  # in widths of a line


def accuracy_html(report: Mapping[str, Any], title: str = 'Accuracy test') -> str:
    """The page.

    Args:
        report: of `AccuracyTest.report`.
        title: its heading.
    """
    mean, points = report['mean'], report['points']
    lead = f'{report["n_points"]} points, {sum(point["n"] for point in points):,} samples'
    if report['n_points_missing']:
        lead += f'; points without a gaze, left out of the means: {report["n_points_missing"]}'
    total = report['latency_ms'].get('total')
    cards = [
        (_number(mean['deg']), '°', 'error, mean over points'),
        (_number(mean['cm']), 'cm', 'error, mean over points'),
        (_number(mean['rms_s2s_deg']), '°', 'precision, RMS-S2S'),
        (_number(mean['sd_deg']), '°', 'precision, SD'),
        (_number(100 * mean['data_loss'], 1), '%', 'data loss'),
        (_number(total and total['mean'], 1), 'ms', 'time per frame, mean'),
    ]
    shown = (f'<div class="card"><b>{v} <small>{unit}</small></b><span>{name}</span></div>' for v, unit, name in cards)
    facts = ''.join(f'<dt>{_text(name)}</dt><dd>{_text(value)}</dd>' for name, value in report['facts'].items())
    body = [
        f'<h1>{_text(title)}</h1><p class="note">{lead}</p>',
        f'<div class="cards">{"".join(shown)}</div>',
        f'<dl>{facts}</dl>',
        f'<h2>Where the eye was seen</h2>{_grid(report)}<p class="note">{_LEGEND}</p>',
        f'<h2>Points</h2>{_points_table(report)}<p class="note">{_NOTE}</p>',
    ]
    if report['latency_ms']:
        rows = [[name, _number(t['mean'], 1), _number(t['p95'], 1)] for name, t in report['latency_ms'].items()]
        body.append(f'<h2>Time</h2>{_table(["step", "mean, ms", "95 %, ms"], rows)}')
    top = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    top += f'<title>{_text(title)}</title><style>{_STYLE}</style>'
    text = '\n'.join(body)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{top}</head>\n<body>\n{text}\n</body></html>\n'


def _points_table(report: Mapping[str, Any]) -> str:
    heads = ['point', 'target px', 'x px', 'y px', 'x mm', 'y mm', 'error px', 'mm', 'deg', 'sample error deg']
    heads += ['RMS-S2S deg', 'SD deg', 'samples', 'lost']
    rows = []
    for number, point in enumerate(report['points'], 1):
        x, y = point['target_px']
        cells = [str(number), f'({x:.0f}, {y:.0f})', *_errors(point['error'] or {}, sign=True)]
        cells += [_number((point['sample_error'] or {}).get('deg')), _number(point['rms_s2s']['deg'])]
        cells += [_number(point['sd']['deg']), str(point['n'])]
        rows.append([*cells, ', '.join(f'{n} {reason}' for reason, n in point['lost'].items()) or '0'])
    mean = report['mean']
    foot = ['mean', '', *_errors(mean), *(_number(mean[f'{name}_deg']) for name in ('sample_error', 'rms_s2s', 'sd'))]
    foot += [str(sum(point['n'] for point in report['points'])), f'{100 * mean["data_loss"]:.1f} %']
    return _table(heads, rows, foot)


def _errors(error: Mapping[str, Any], sign: bool = False) -> list[str]:
    """x and y in px and mm, and the distance in px, mm and degrees."""
    cells = [_number(error.get(name), 0, sign) for name in ('x_px', 'y_px')]
    cells += [_number(error.get(name), 1, sign) for name in ('x_mm', 'y_mm')]
    return [*cells, _number(error.get('px'), 0), _number(error.get('mm'), 1), _number(error.get('deg'))]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], foot: Sequence[str] = ()) -> str:
    def line(cells: Sequence[str], tag: str = 'td') -> str:
        return '<tr>' + ''.join(f'<{tag}>{_text(cell)}</{tag}>' for cell in cells) + '</tr>'

    body = ''.join(line(row) for row in rows)
    end = f'<tfoot>{line(foot)}</tfoot>' if foot else ''
    table = f'<table><thead>{line(heads, "th")}</thead><tbody>{body}</tbody>{end}</table>'
    return f'<div class="scroll">{table}</div>'


def _grid(report: Mapping[str, Any]) -> str:
    """Screen, targets, means, ellipses and samples, in mm."""
    size = report['screen']['size_mm']
    scale = [mm / px for mm, px in zip(size, report['screen']['size_px'], strict=True)]
    line = max(size) / 400  # the width of a line
    shapes, corners = [], [(0.0, 0.0), (size[0], size[1])]
    for number, point in enumerate(report['points'], 1):
        at = _scaled(point['target_px'], scale)
        corners.append(at)
        label = f'{number}'
        if point['mean_px'] is not None:
            label += f': {point["error"]["mm"]:.0f}'
            corners.append(_scaled(point['mean_px'], scale))
            shapes += _samples(point, at, scale, line)
        shapes.append(_circle('target', at, _TARGET_RADIUS * line, line))
        shapes.append(_circle('target-dot', at, line))
        place = f'x="{at[0] + 5 * line:.2f}" y="{at[1] - 5 * line:.2f}"'
        shapes.append(f'<text {place} style="font-size:{_TEXT_SIZE * line:.2f}px">{label}</text>')
    # Points far outside do not shrink the screen to a dot.
    low = [max(min(c[i] for c in corners), -0.5 * size[i]) - 8 * line for i in (0, 1)]
    high = [min(max(c[i] for c in corners), 1.5 * size[i]) + 8 * line for i in (0, 1)]
    view = f'{low[0]:.2f} {low[1]:.2f} {high[0] - low[0]:.2f} {high[1] - low[1]:.2f}'
    frame = f'<rect class="screen" width="{size[0]}" height="{size[1]}" stroke-width="{line:.2f}"/>'
    label = 'targets and means on the screen'
    return f'<svg viewBox="{view}" role="img" aria-label="{label}">{frame}{"".join(shapes)}</svg>'


def _samples(point: Mapping[str, Any], target: tuple, scale: Sequence[float], line: float) -> list[str]:
    """Dots, ellipse, mean and the line from the target to it."""
    x, y = _scaled(point['mean_px'], scale)
    step = math.ceil(len(point['samples_px']) / _MAX_DOTS)
    shapes = [_circle('sample', _scaled(px, scale), line) for px in point['samples_px'][::step]]
    if point['ellipse']:
        a, b = (max(2 * semi, line / 2) for semi in point['ellipse']['semi_mm'])
        turn = f'translate({x:.2f} {y:.2f}) rotate({point["ellipse"]["angle_deg"]:.1f})'
        axes = f'rx="{a:.2f}" ry="{b:.2f}" stroke-width="{line / 2:.2f}"'
        shapes.append(f'<ellipse class="ellipse" {axes} transform="{turn}"/>')
    ends = f'x1="{target[0]:.2f}" y1="{target[1]:.2f}" x2="{x:.2f}" y2="{y:.2f}"'
    shapes.append(f'<line class="error" {ends} stroke-width="{line:.2f}"/>')
    return [*shapes, _circle('mean', (x, y), _MEAN_RADIUS * line)]


def _scaled(point_px: Sequence[float], scale: Sequence[float]) -> tuple[float, float]:
    return point_px[0] * scale[0], point_px[1] * scale[1]


def _circle(name: str, at: tuple[float, float], radius: float, stroke: float = 0) -> str:
    width = f' stroke-width="{stroke:.2f}"' if stroke else ''
    return f'<circle class="{name}" cx="{at[0]:.2f}" cy="{at[1]:.2f}" r="{radius:.2f}"{width}/>'


def _number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """A number, '-' for one that does not exist."""
    if value is None or not math.isfinite(value):
        return '-'
    return f'{value:{"+" if sign else ""},.{digits}f}'


def _text(value: Any) -> str:
    return html.escape(str(value))
