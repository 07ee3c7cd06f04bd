"""The guard against figures that look too good: test persons in the training, checkpoints chosen on the test.

A checkpoint carries who it was trained on, who validated it and how it was chosen; a test compares that with the rows
it is about to read. Persons are the same if their names are, in data sets of the same name (synthetic ones: and seed),
so that another preparation of the same data set does not hide them.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from evg.datasets.index import INDEX_NAME, read_persons
from evg.errors import UserError
from evg.registry import HOOKS

META_KEY = 'evg_data'
CONVERTED_KEY = 'converted_from'  # in the meta of checkpoints of other programs, see evg/engine/convert.py
Row = tuple[str, str, str]  # data set, split, person
_ALLOW = 'set allow_leak=True in the config (or with --cfg-options) to go on; the result table then says so'


def persons_of(loader: Mapping[str, Any] | None) -> set[Row]:
    """Which persons of which splits a loader's config reads; none where its data are not there (yet).

    Args:
        loader: config of a data loader, its dataset possibly wrapped or put together of several.

    Raises:
        IndexFileError: there is an index that cannot be used.
    """
    rows: set[Row] = set()
    for dataset in _datasets((loader or {}).get('dataset')):
        path = Path(dataset['data_root'])
        path = path if path.suffix == '.parquet' else path / INDEX_NAME
        if not path.is_file():
            continue
        # The defaults are those of GazeDataset.
        splits = dataset.get('splits', 'train')
        name, info, persons = read_persons(
            path, [splits] if isinstance(splits, str) else splits, dataset.get('subjects')
        )
        rows |= {(_population(name, info), split, person) for split, person in persons}
    return rows


def provenance(cfg: Mapping[str, Any], checkpoint: Mapping[str, Any], path: str) -> dict[str, Any]:
    """How a checkpoint came about, for the result table, and whether the test of `cfg` may be trusted.

    Args:
        cfg: the config of the test.
        checkpoint: as loaded; one without the guard's facts is judged by `cfg` and by its file name.
        path: its file.

    Returns:
        `checkpoint` (the file), `choice` (a sentence), `leaks` (sentences, empty if all is well), `allow_leak`.

    Raises:
        UserError: there is a leak and `cfg.allow_leak` is not set; the message names the persons.
    """
    meta = checkpoint.get('meta', {})
    facts = meta.get(META_KEY)
    tested = persons_of(cfg.get('test_dataloader'))
    if facts is None:
        best = Path(path).name.startswith('best_')
        trained, watched = (persons_of(cfg.get(f'{name}_dataloader')) for name in ('train', 'val'))
        facts = {'best': 'a figure that its name tells' if best else None, 'early_stop': False}
    else:
        trained, watched = _rows(facts['train']), _rows(facts['val'])
    leaks = []
    both = _persons(trained) & _persons(tested)
    if both:
        leaks.append(f'the model was trained on {_named(both)} of this test')
    watched_too = _persons(watched & tested)
    choice = f'epoch {meta["epoch"]}' if 'epoch' in meta else 'not known how it was chosen'
    if facts['best']:
        choice += f', chosen by the best {facts["best"]} on {_named(_persons(watched))}'
        if watched_too:
            leaks.append(f'the checkpoint was chosen by {facts["best"]} on {_named(watched_too)} of this test')
    elif 'epoch' in meta:
        choice += ', not chosen by a figure'
        if facts['early_stop'] and watched_too:
            choice += '; early stop watched persons of this test'
    if CONVERTED_KEY in meta:
        file = meta[CONVERTED_KEY]['file']
        choice = f'converted from {file}; not known on whom it was trained, nor how it was chosen'
    allowed = bool(cfg.get('allow_leak', False))
    if leaks and not allowed:
        last = '; test the last checkpoint, model_N.pth, instead' if facts['best'] and not both else ''
        raise UserError(f'{path}: {"; ".join(leaks)}{last}; {_ALLOW}')
    return {'checkpoint': path, 'choice': choice, 'leaks': leaks, 'allow_leak': allowed}


def provenance_lines(facts: Mapping[str, Any]) -> list[str]:
    """`provenance` as lines below a result table."""
    lines = [f'checkpoint: {facts["choice"]}']
    if facts['allow_leak']:
        lines.append(f'allow_leak=True: {"; ".join(facts["leaks"]) or "no leak found"}')
    return lines


@HOOKS.register_module()
class LeakGuardHook(Hook):
    """Refuses to train on persons of the test, and stores in each checkpoint what `provenance` needs.

    A validation on rows of the test is logged: its `best_*` checkpoint is then refused by tools/test.py.

    Args:
        allow_leak: go on all the same, with a warning.
    """

    def __init__(self, allow_leak: bool = False) -> None:
        self.allow_leak = allow_leak
        self.train: set[Row] = set()
        self.val: set[Row] = set()
        self.test: set[Row] = set()
        self._best: dict[str, Any] = {}

    def before_run(self, runner: Runner) -> None:
        """Compare the three loaders of the config."""
        cfg = runner.cfg
        self.train, self.val, self.test = (persons_of(cfg.get(f'{n}_dataloader')) for n in ('train', 'val', 'test'))
        self._check(runner)
        shared = _persons(self.val & self.test)
        if self.train and shared:
            runner.logger.warning(
                f'validation reads {_named(shared)} of the test: tools/test.py refuses the best_* checkpoint of this '
                'run; test model_N.pth, the last one'
            )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Who trained the weights that a run starts from counts as well."""
        facts = checkpoint.get('meta', {}).get(META_KEY)
        if facts and self.train:
            self.train |= _rows(facts['train'])
            self._check(runner)

    def before_train(self, runner: Runner) -> None:
        """Note which best checkpoint a resumed run has already."""
        self._best = _best_files(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Store the persons, and the monitor if this is the file of a new best value."""
        # mmengine names a new best file in the message hub just before it writes it.
        files = _best_files(runner)
        new = [key for key in files if files[key] != self._best.get(key)]
        self._best = files
        checkpoint['meta'][META_KEY] = {
            'train': _nested(self.train),
            'val': _nested(self.val),
            'best': _monitor(runner, new[0]) if new else None,
            'early_stop': any(type(hook).__name__.startswith('EarlyStop') for hook in runner.hooks),
        }

    def _check(self, runner: Runner) -> None:
        both = _persons(self.train) & _persons(self.test)
        if not both:
            return
        if not self.allow_leak:
            raise UserError(f'{_named(both)} would be trained on and tested: choose other splits or subjects; {_ALLOW}')
        runner.logger.warning(f'allow_leak=True: {_named(both)} are trained on and tested')


def _datasets(cfg: Any) -> Iterator[Mapping[str, Any]]:
    """All dataset configs with a `data_root`, however deep they are wrapped."""
    if isinstance(cfg, Mapping):
        if 'data_root' in cfg:
            yield cfg
        for name in ('dataset', 'datasets'):
            yield from _datasets(cfg.get(name))
    elif isinstance(cfg, (list, tuple)):
        for item in cfg:
            yield from _datasets(item)


def _population(name: str, info: Mapping[str, Any]) -> str:
    """A name for the persons of a data set."""
    settings = info.get('settings')
    return f'{name} (seed {settings["seed"]})' if isinstance(settings, dict) and 'seed' in settings else name


def _persons(rows: Iterable[Row]) -> set[tuple[str, str]]:
    return {(name, person) for name, _, person in rows}


def _named(persons: set[tuple[str, str]]) -> str:
    """'3 persons (p00, p01, p02)', at most twelve of them by name."""
    names = sorted(person for _, person in persons)
    more = ', ...' if len(names) > 12 else ''
    return f'{len(names)} person{"s" if len(names) > 1 else ""} ({", ".join(names[:12])}{more})'


def _nested(rows: Iterable[Row]) -> dict[str, dict[str, list[str]]]:
    """Rows as plain values of a checkpoint."""
    nested: dict[str, dict[str, list[str]]] = {}
    for name, split, person in sorted(rows):
        nested.setdefault(name, {}).setdefault(split, []).append(person)
    return nested


def _rows(nested: Mapping[str, Mapping[str, Iterable[str]]]) -> set[Row]:
    """The inverse of `_nested`."""
    return {(name, split, p) for name, splits in nested.items() for split, persons in splits.items() for p in persons}


def _best_files(runner: Runner) -> dict[str, Any]:
    return {k: v for k, v in runner.message_hub.runtime_info.items() if k.startswith('best_ckpt')}


def _monitor(runner: Runner, key: str) -> str:
    """What a best file was chosen by; with several monitors their names stand in the keys."""
    if key != 'best_ckpt':
        return key.removeprefix('best_ckpt_')
    chosen = next((hook.save_best for hook in runner.hooks if getattr(hook, 'save_best', None)), 'figure')
    return str(chosen if isinstance(chosen, str) else chosen[0])
