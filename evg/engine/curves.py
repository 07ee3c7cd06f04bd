"""Curves of trainings from the scalars in their work folders: read, joined over restarts, drawn."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from evg.errors import UserError, did_you_mean

# What is drawn if nothing is asked for: the loss, and the figures by which the base configs choose the best checkpoint.
DEFAULT_KEYS = ('loss', 'pog/mean_mm', 'gaze/mean_deg', 'landmarks/mean_px')
_NOT_FIGURES = {'step', 'iter', 'epoch'}
Scalars = dict[str, dict[int, float]]  # by key and step


@dataclass
class Curves:
    """The logged scalars of a training.

    Attributes:
        folder: its work folder.
        train: values of the training, by iteration.
        val: values of the validation, by epoch.
    """

    folder: Path
    train: Scalars = field(default_factory=dict)
    val: Scalars = field(default_factory=dict)

    @property
    def keys(self) -> set[str]:
        """What was logged."""
        return {*self.train, *self.val}


def read_curves(folder: str | Path) -> Curves:
    """Read a work folder, its restarts joined: what a later start logged replaces the steps from its first one on.

    Args:
        folder: a `--work-dir` of tools/train.py. A last line that a killed run did not finish is left out.

    Raises:
        UserError: there is no log of a training, or a line of it cannot be read.
    """
    folder = Path(folder)
    curves = Curves(folder)
    # The folders are called by the time of the start.
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        rows = list(_rows(path))
        # Lines of the training also say their iteration and epoch.
        first = next((row for row in rows if 'iter' in row), None)
        if first:
            _cut(curves.train, first['step'])
            _cut(curves.val, first.get('epoch', 1))
        for row in rows:
            scalars = curves.train if 'iter' in row else curves.val
            for key, value in row.items():
                if key not in _NOT_FIGURES and isinstance(value, (int, float)):
                    scalars.setdefault(key, {})[row['step']] = value
    if not curves.keys:
        raise UserError(f'{folder} holds no log of a training, no */vis_data/scalars.json: give a --work-dir')
    return curves


def choose_keys(runs: Sequence[Curves], keys: Sequence[str] | None = None) -> list[str]:
    """The keys to draw; without a wish, those of `DEFAULT_KEYS` that some run has.

    Raises:
        UserError: no run has a key; the message lists those there are.
    """
    known = set().union(*(run.keys for run in runs))
    for key in keys or ():
        if key not in known:
            names = ', '.join(str(run.folder) for run in runs)
            near = did_you_mean(key, known, 0)
            raise UserError(f'nothing called {key!r} was logged in {names}{near}; there are {", ".join(sorted(known))}')
    return list(keys or [key for key in DEFAULT_KEYS if key in known] or sorted(known)[:1])


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Running mean with exponential weights, from the first value on; a value that is not finite stays as it is.

    Args:
        values: in order.
        weight: 0 (the values themselves) to below 1; what a value weighs falls by this factor with each step.
    """
    total = mass = 0.0
    means = []
    for value in values:
        if math.isfinite(value):
            total, mass = weight * total + value, weight * mass + 1
        means.append(total / mass if math.isfinite(value) else value)
    return means


def draw_curves(runs: Sequence[Curves], keys: Sequence[str], smooth: float = 0.0) -> Figure:
    """One chart per key, all runs in each: the training over iterations, the validation over epochs.

    Args:
        runs: at least one.
        keys: see `choose_keys`.
        smooth: see `smoothed`; applied to the training, whose own values are drawn pale.
    """
    with rc_context({'font.size': 9, 'axes.edgecolor': '#888', 'axes.grid': True, 'grid.color': '#e2e2e2'}):
        figure = Figure(figsize=(8, 2.7 * len(keys)), dpi=120, layout='constrained')
        for axes, key in zip(figure.subplots(len(keys), squeeze=False)[:, 0], keys, strict=True):
            # Times and the like are logged in both.
            of_training = any(key in run.train for run in runs)
            for number, (run, name) in enumerate(zip(runs, _names(runs), strict=True)):
                points = sorted((run.train if of_training else run.val).get(key, {}).items())
                if not points:
                    continue
                steps, values = [step for step, _ in points], [value for _, value in points]
                color = f'C{number % 10}'
                if of_training and smooth:
                    axes.plot(steps, values, color=color, alpha=0.25, linewidth=1)
                    values = smoothed(values, smooth)
                marker = '' if of_training and len(points) > 1 else 'o'
                axes.plot(steps, values, color=color, linewidth=1.5, marker=marker, markersize=3, label=name)
            axes.set(ylabel=key, xlabel='iteration' if of_training else 'epoch')
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.spines[['top', 'right']].set_visible(False)
            axes.legend(frameon=False)
    return figure


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    lines = path.read_text(encoding='utf-8', errors='replace').splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not isinstance(row['step'], int):
                raise ValueError
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines):
                return
            raise UserError(f'{path}, line {number} is no record of a training: {line[:80]!r}') from error
        yield row


def _cut(scalars: Scalars, first: int) -> None:
    """Drop the steps from one on."""
    for values in scalars.values():
        for step in [step for step in values if step >= first]:
            del values[step]


def _names(runs: Sequence[Curves]) -> list[str]:
    """What the legend calls the runs: their folders' names, or their paths where two names are the same."""
    names = [run.folder.resolve().name for run in runs]
    count = Counter(names)
    return [name if count[name] == 1 else str(run.folder) for name, run in zip(names, runs, strict=True)]
