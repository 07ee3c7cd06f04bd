"""The report of `evg.deploy.parity` as text."""

import re
from collections.abc import Mapping
from typing import Any

from evg.evaluation.report import aligned, number


def render(report: Mapping[str, Any]) -> str:
    """Tables: raw outputs, answers, figures, time and size, and whether it passed."""
    runs_on, ms = report['runs_on'], report['milliseconds']
    lines = [
        f'{report["model"]}, {report["precision"]}: torch ({runs_on["torch"]}) and {report["backend"]} '
        f'({runs_on["runtime"]})',
        f'on {report["pictures"]}',
        '',
    ]
    rows = [['raw outputs, difference', 'mean', 'max', 'largest value']]
    rows += [
        [name, f'{row["mean"]:.2e}', f'{row["max"]:.2e}', number(row['largest_value'])]
        for name, row in report['outputs'].items()
    ]
    lines += [*aligned(rows), '']
    rows = [['answers, difference', 'mean', 'p95', 'max']]
    rows += [[name, *(f'{row[key]:.4f}' for key in rows[0][1:])] for name, row in report['answers'].items()]
    lines += [*aligned(rows), '']
    figures = report['figures']
    names = [name for name in figures['torch'] if re.search(r'/(mean|median|p95)_', name)]
    if names:
        rows = [['figures', 'torch', report['backend']]]
        rows += [[name, f'{figures["torch"][name]:.3f}', f'{figures["runtime"][name]:.3f}'] for name in names]
        lines += [*aligned(rows), '']
    rows = [['time of one picture', 'median ms', 'p95 ms', 'a second']]
    for title, name in (
        ('network, torch', 'torch'),
        (f'network, {report["backend"]}', 'network'),
        ('picture to input', 'prepare'),
        ('outputs to answer', 'decode'),
    ):
        rows.append([title, *(number(ms[name][key]) for key in ('median', 'p95', 'per_second'))])
    lines += [*aligned(rows), '']
    rows = [['size', 'MB'], *([name, number(size / 1e6)] for name, size in report['bytes'].items())]
    lines += [*aligned(rows), '']
    if report['blind']:
        lines += ['the outputs hardly depend on the picture (random weights?): this comparison says little', '']
    if report['failures']:
        return '\n'.join([*lines, 'beyond the tolerance:', *(f'  {text}' for text in report['failures'])])
    return '\n'.join([*lines, 'within the tolerance'])
