"""Protocols over persons: which are trained on, which are tested, and one table of all of them.

A protocol is a part of a config (`protocol = dict(type='LeaveOneOut', subjects=[...])`); `tools/cross_validate.py`
trains and tests its folds. No person is in training and test of one fold, and nobody of the test chooses a checkpoint.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evg.datasets.index import Index
from evg.errors import UserError, did_you_mean
from evg.registry import EVALUATOR

from . import functional as F
from .report import aligned, mean_and_interval, number

# What a validation consists of, and what may refer to it.
_VALIDATION = ('val_dataloader', 'val_cfg', 'val_evaluator', 'test_evaluator')


@dataclass(frozen=True)
class Fold:
    """One training and one test; persons by name.

    Attributes:
        name: becomes a folder.
        train: persons to train on.
        val: persons who choose the checkpoint; none means that the last one is tested.
        test: persons to test.
    """

    name: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


class _Protocol(ABC):
    """What protocols share.

    Args:
        val_subjects: persons who choose the checkpoint of every fold; they are neither trained on nor tested.
    """

    def __init__(self, val_subjects: Sequence[str] = ()) -> None:
        self.val_subjects = tuple(map(str, val_subjects))

    @abstractmethod
    def test_groups(self, available: Sequence[str]) -> dict[str, list[str]]:
        """Name and test persons of each fold."""

    def folds(self, available: Sequence[str]) -> list[Fold]:
        """The folds, in order.

        Args:
            available: persons in the index.

        Raises:
            UserError: a person who is not there, or who has two roles; fewer than two folds.
        """
        groups = self.test_groups(available)
        tested = [person for group in groups.values() for person in group]
        for person in (*tested, *self.val_subjects):
            if person not in available:
                near = did_you_mean(person, available)
                raise UserError(f'protocol: there is no person {person!r} in the index{near}')
        roles = [*tested, *self.val_subjects]
        twice = sorted({person for person in roles if roles.count(person) > 1})
        if twice:
            raise UserError(f'protocol: {", ".join(twice)} would be tested or validated twice')
        if len(groups) < 2:
            raise UserError(f'protocol: {len(groups)} fold(s) leave nobody to train on; at least two are needed')
        return [
            Fold(name, tuple(p for p in tested if p not in group), self.val_subjects, tuple(group))
            for name, group in groups.items()
        ]


# Beside mmengine's Evaluator: a protocol says what is evaluated.
@EVALUATOR.register_module()
class LeaveOneOut(_Protocol):
    """Each person is tested once, by a model trained on all others.

    Args:
        subjects: the persons; all of the index but `val_subjects` by default.
        val_subjects: persons who choose the checkpoint of every fold, neither trained on nor tested; without any, the
            last checkpoint is tested.
    """

    def __init__(self, subjects: Sequence[str] | None = None, val_subjects: Sequence[str] = ()) -> None:
        super().__init__(val_subjects)
        self.subjects = None if subjects is None else list(map(str, subjects))

    def test_groups(self, available: Sequence[str]) -> dict[str, list[str]]:
        """One person each."""
        chosen = [p for p in available if p not in self.val_subjects] if self.subjects is None else self.subjects
        return {person: [person] for person in chosen}


@EVALUATOR.register_module()
class Folds(_Protocol):
    """Groups of persons; each group is tested once, by a model trained on the other groups.

    For EYEDIAP's clusters and RT-GENE's folds. A person in no group is not used.

    Args:
        folds: the groups.
        val_subjects: as in `LeaveOneOut`.
    """

    def __init__(self, folds: Sequence[Sequence[str]], val_subjects: Sequence[str] = ()) -> None:
        super().__init__(val_subjects)
        self.groups = [list(map(str, fold)) for fold in folds]

    def test_groups(self, available: Sequence[str]) -> dict[str, list[str]]:
        """The groups as fold1, fold2, ..."""
        return {f'fold{number}': group for number, group in enumerate(self.groups, start=1)}


def labelled_persons(index: Index, column: str | None) -> tuple[list[str], list[str]]:
    """The persons of an index who have labels, and their splits; test persons of EVE and ETH-XGaze have none.

    Args:
        index: the whole index.
        column: what a label is, see `evg.datasets.gaze_dataset.label_column`; None for everybody.
    """
    columns, known = index.columns, np.ones(len(index), bool)
    if column is not None:
        known = np.isfinite(columns[column]).reshape(len(index), -1).any(axis=1)
    return np.unique(columns['subject'][known]).tolist(), np.unique(columns['split'][known]).tolist()


def fold_overrides(cfg: Mapping[str, Any], options: Sequence[str], fold: Fold, splits: Sequence[str]) -> list[str]:
    """A fold as overrides of a config with `subjects` and `splits`, for `--cfg-options`.

    Args:
        cfg: the config, loaded with `options`.
        options: the user's own overrides; those of a validation that does not take place are left out.
        fold: the fold.
        splits: the splits of these persons; all of them are read, the persons alone decide.

    Raises:
        UserError: the config has no `subjects` and `splits`, so the persons cannot be chosen.
    """
    for name in ('subjects', 'splits'):
        if set(cfg.get(name) or ()) != {'train', 'val', 'test'}:
            raise UserError(f'cross-validation needs {name} = dict(train=..., val=..., test=...) as in _base_/datasets')
    words = [word for word in options if fold.val or word.lstrip('+').split('=')[0].split('.')[0] not in _VALIDATION]
    for role in ('train', 'val', 'test') if fold.val else ('train', 'test'):
        words += [f'subjects.{role}={list(getattr(fold, role))!r}', f'splits.{role}={list(splits)!r}']
    if not fold.val:
        # Nobody validates, so nothing can be chosen by it. The test evaluator may refer to the one that goes.
        evaluator = [dict(metric) for metric in cfg['test_evaluator']]
        words += [f'{key}=None' for key in _VALIDATION[:-1]] + [f'test_evaluator={evaluator!r}']
        words.append('default_hooks.checkpoint.save_best=None')
    return words


def pool(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The results of all folds as one table of persons for each metric.

    Args:
        folds: each `{'fold': Fold.to_json(), 'reports': [metric.report, ...]}`.

    Returns:
        For each metric `title`, `unit`, `persons` (`subject`, `fold`, `n`, `n_missing`, `mean`, `sd` over the person's
        samples), and over persons `mean`, `sd` (n - 1), `ci95` (half width, t distribution), `n_persons`, `n`.
    """
    metrics: dict[str, Any] = {}
    for result in folds:
        for report in result['reports']:
            metric = metrics.setdefault(
                report['metric'], {'title': report['title'], 'unit': report['unit'], 'persons': []}
            )
            metric['persons'] += [{**person, 'fold': result['fold']['name']} for person in report['subjects']]
    for metric in metrics.values():
        metric['persons'].sort(key=lambda person: person['subject'])
        means = np.array([person['mean'] for person in metric['persons']], np.float64)
        known = means[np.isfinite(means)]
        metric['mean'], metric['ci95'] = F.mean_ci95(means)
        metric['sd'] = float(known.std(ddof=1)) if len(known) > 1 else np.nan
        metric['n_persons'], metric['n'] = len(means), sum(person['n'] for person in metric['persons'])
    return metrics


def render_pooled(metrics: Mapping[str, Any]) -> str:
    """`pool` as aligned tables."""
    lines: list[str] = []
    for metric in metrics.values():
        unit = metric['unit']
        lines.append(f'{metric["title"]}: {metric["n_persons"]} persons, {metric["n"]:,} samples')
        rows = [['person', f'mean {unit}', f'sd {unit}', 'n', 'fold']]
        for p in metric['persons']:
            rows.append([p['subject'], number(p['mean']), number(p['sd']), f'{p["n"]:,}', p['fold']])
        rows.append(['over persons', number(metric['mean']), number(metric['sd']), '', ''])
        lines += aligned(rows)
        lines += [f'  mean over persons {mean_and_interval(metric["mean"], metric["ci95"], unit, "person")}', '']
    return '\n'.join(lines[:-1])
