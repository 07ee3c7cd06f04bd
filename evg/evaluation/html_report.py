"""One HTML page with all of a test: figures, charts, tables, pictures; no other file and no network is needed.

Tables keep their words and numbers in the page's text, so that they can be copied; charts come in a light and a dark
version, and the page shows the one that the reader's system asks for.
"""

import base64
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .charts import DARK, LIGHT, error_curve, error_map
from .report import number

Image = NDArray[np.uint8]
# The column that a metric's report is about, and its baseline.
_ERRORS = {
    'error_mm': 'constant_error_mm',
    'error_deg': 'constant_error_deg',
    'error_gaze_deg': 'constant_error_gaze_deg',
    'error_landmarks_px': 'constant_error_landmarks_px',
}
_STYLE = """
:root { color-scheme: light dark; --back: #fff; --panel: #f6f7f8; --line: #dfe3e7; --text: #1f2428; --muted: #5d666f;
  --bar: #2563a6; --warn: #b3261e; --warn-back: #fdecea; }
@media (prefers-color-scheme: dark) { :root { --back: #1b1d20; --panel: #24272b; --line: #3a3f45; --text: #e1e5e8;
  --muted: #9aa4ad; --bar: #ffd628; --warn: #ff9b92; --warn-back: #3a2220; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 32px 24px 64px; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 40px 0 12px; }
h3 { font-size: 15px; margin: 24px 0 8px; color: var(--muted); font-weight: 600; }
.lead, .note { color: var(--muted); } .note { font-size: 13px; margin: 6px 0; }
.leak { border: 1px solid var(--warn); background: var(--warn-back); color: var(--warn); border-radius: 8px;
  padding: 10px 14px; margin: 16px 0; font-weight: 600; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 12px; margin: 20px 0; }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.card b { display: block; font-size: 27px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.card b small { font-size: 15px; font-weight: 500; color: var(--muted); }
.card span { color: var(--muted); font-size: 13px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 18px; margin: 16px 0; font-size: 14px; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
.tables { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(480px, 100%), 1fr)); gap: 0 32px; }
.charts { margin-bottom: 18px; } .scroll { overflow: auto; max-height: 560px; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; min-width: min(420px, 100%); }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--muted); font-weight: 600; } th:first-child, td:first-child { text-align: left; }
td.bar { width: 220px; padding-left: 12px; } td.bar i { display: block; height: 9px; border-radius: 5px;
  background: var(--bar); min-width: 2px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(460px, 100%), 1fr)); gap: 16px; }
.charts img, figure img { width: 100%; height: auto; border: 1px solid var(--line); border-radius: 8px;
  display: block; }
figure { margin: 0 0 18px; } figcaption { color: var(--muted); font-size: 13px; margin-top: 4px; }
"""


def html_report(
    title: str,
    facts: Mapping[str, Any],
    results: Sequence[tuple[Mapping[str, Any], Mapping[str, NDArray]]],
    provenance: Mapping[str, Any],
    screen_size_px: tuple[float, float] | None = None,
    sheets: Sequence[tuple[str, Image]] = (),
) -> str:
    """The page.

    Args:
        title: its heading.
        facts: what stands at the top, name to value: config, checkpoint, data set, split, ...
        results: `(metric.report, metric.rows())` of each metric.
        provenance: as of `evg.engine.leak_guard.provenance`: `choice`, `leaks`, `allow_leak`.
        screen_size_px: (width, height) of the one screen of all samples, for the error map; None leaves it out.
        sheets: caption and BGR picture of some predictions.
    """
    first = results[0][0]
    lead = f'{first["n"]:,} samples of {first["n_subjects"]:,} persons'
    body = [f'<h1>{_text(title)}</h1>', f'<p class="lead">{_text(lead)}</p>']
    if provenance['allow_leak']:
        found = '; '.join(provenance['leaks']) or 'no leak was found'
        body.append(f'<p class="leak">allow_leak=True: {_text(found)}</p>')
    body.append(_cards([report for report, _ in results]))
    rows = {**facts, 'checkpoint is': provenance['choice']}
    body.append('<dl>' + ''.join(f'<dt>{_text(k)}</dt><dd>{_text(v)}</dd>' for k, v in rows.items()) + '</dl>')
    for report, columns in results:
        body.append(_section(report, columns, screen_size_px))
    if sheets:
        body.append('<h2>Predictions</h2><p class="note">red: truth, yellow: prediction</p>')
        body += [_figure(caption, image) for caption, image in sheets]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f'<title>{_text(title)}</title><style>{_STYLE}</style>'
    text = '\n'.join(body)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{text}\n</body></html>\n'


def _cards(reports: Sequence[Mapping[str, Any]]) -> str:
    """The headline of each metric: mean, mean over persons with its interval, against the constant answer."""
    cards = []
    for report in reports:
        unit, name = report['unit'], report['title'].lower()
        cards.append((number(report['overall'][0]['mean']), unit, f'{name}: mean over samples'))
        half = report['subject_ci95']
        interval = 'one person: no interval' if half is None or np.isnan(half) else f'95 % CI ± {number(half)}'
        cards.append((number(report['subject_mean']), unit, f'{name}: mean over persons, {interval}'))
        if report['constant_ratio'] is not None:
            ratio = f'{name}: of the constant answer ({number(report["constant_mean"])} {unit})'
            cards.append((number(report['constant_ratio']), '×', ratio))
    parts = [f'<div class="card"><b>{v} <small>{u}</small></b><span>{_text(t)}</span></div>' for v, u, t in cards]
    return f'<div class="cards">{"".join(parts)}</div>'


def _section(report: Mapping[str, Any], columns: Mapping[str, NDArray], screen: tuple[float, float] | None) -> str:
    """Charts and tables of one metric."""
    unit = report['unit']
    name = next(name for name in _ERRORS if name in columns)
    error, baseline = columns[name], columns.get(_ERRORS[name])
    curves = {'model': error} | ({} if baseline is None else {f'always {report["constant_answer"]}': baseline})
    charts = [_chart([error_curve(curves, unit, theme) for theme in (LIGHT, DARK)], f'cumulative error, {unit}')]
    if screen is not None and np.isfinite(columns.get('gt_screen_px', np.nan)).any():
        points = columns['gt_screen_px']
        maps = [error_map(points, error, screen, unit, theme=theme) for theme in (LIGHT, DARK)]
        charts.append(_chart(maps, f'mean error by place on the screen, {unit}'))
    heads = ['', 'mean', 'median', 'p95', 'n']
    overall = [{'group': f'{q["quantity"]}, {q["unit"]}', **q} for q in report['overall']]
    parts = [f'<h2>{_text(report["title"])}</h2>', f'<div class="charts">{"".join(charts)}</div>']
    parts.append(_table(heads, overall, bars=False))
    parts += [f'<p class="note">{_text(note)}</p>' for note in report['notes']]
    parts.append('<div class="tables">')
    for group in report['groups']:
        table = _table(['', f'mean {group["unit"]}', 'median', 'p95', 'n'], group['rows'])
        notes = ''.join(f'<p class="note">{_text(note)}</p>' for note in group['notes'])
        parts.append(f'<section><h3>By {_text(group["title"])}</h3>{table}{notes}</section>')
    persons = [{'group': row['subject'], **row} for row in report['subjects']]
    table = _table(['', f'mean {unit}', 'sd', 'n'], persons, ('mean', 'sd', 'n'))
    parts.append(f'<section><h3>By person</h3>{table}</section></div>')
    return '\n'.join(parts)


def _table(
    heads: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str] = ('mean', 'median', 'p95', 'n'),
    bars: bool = True,
) -> str:
    """A table of groups; bars show the means."""
    means = [row['mean'] for row in rows if _known(row['mean'])]
    top = max(means, default=0.0)
    lines = []
    for row in rows:
        cells = [f'<td>{_text(row["group"])}</td>']
        cells += [f'<td>{row[name]:,}</td>' if name == 'n' else f'<td>{number(row[name])}</td>' for name in names]
        if bars:
            share = 100 * row['mean'] / top if top and _known(row['mean']) else 0
            cells.append(f'<td class="bar"><i style="width:{share:.1f}%"></i></td>')
        lines.append(f'<tr>{"".join(cells)}</tr>')
    head = ''.join(f'<th>{_text(name)}</th>' for name in [*heads, *([''] if bars else [])])
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _chart(light_and_dark: Sequence[Image], name: str) -> str:
    light, dark = (_data(image, '.png') for image in light_and_dark)
    source = f'<source srcset="{dark}" media="(prefers-color-scheme: dark)">'
    return f'<picture>{source}<img src="{light}" alt="{_text(name)}"></picture>'


def _figure(caption: str, image: Image) -> str:
    picture = _data(image, '.jpg')
    return f'<figure><img src="{picture}" alt="{_text(caption)}"><figcaption>{_text(caption)}</figcaption></figure>'


def _data(image: Image, suffix: str) -> str:
    """A BGR picture as a data address."""
    done, packed = cv2.imencode(suffix, image)
    if not done:
        raise ValueError(f'OpenCV cannot encode a picture of shape {image.shape} and type {image.dtype}')
    kind = {'.png': 'png', '.jpg': 'jpeg'}[suffix]
    return f'data:image/{kind};base64,{base64.b64encode(packed.tobytes()).decode()}'


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _text(value: Any) -> str:
    return html.escape(str(value))
