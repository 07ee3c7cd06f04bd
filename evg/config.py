"""Config files: inheritance, ``@`` references, overrides, and checks before any data is touched.

A config is a Python file that is executed, as in mmengine: load only files that you would run. Strings are
never evaluated. The public names of the file are its keys; ``_base_`` names the files to inherit from, relative
to the file; names with a leading underscore, modules, functions and classes stay private to the file. A file
without ``_base_`` defines what it likes; a child and ``--cfg-options`` may only use keys that exist.
"""

import argparse
import ast
import builtins
import difflib
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from evg._config_rules import Merger, check_types, plain, resolve_references, without_delete
from evg.compat import require_mmengine
from evg.errors import ConfigError, UserError

if TYPE_CHECKING:
    from mmengine.config import Config

__all__ = [
    'ConfigError',
    'Override',
    'UserError',
    'add_config_arguments',
    'config_from_args',
    'load_config',
    'parse_override',
]

_CONSTANTS = {'true': True, 'false': False, 'none': None}
# mmengine's Config writes infinity as a bare inf, and a dumped file must load again
_BUILTINS = {**vars(builtins), 'inf': float('inf'), 'nan': float('nan')}


class Override(NamedTuple):
    """One ``a.b.c=value`` of the command line; ``add`` is true for ``+a.b.c=value``."""

    path: tuple[str, ...]
    value: Any
    add: bool


def load_config(path: str | Path, overrides: Sequence[str] | Mapping[str, Any] | None = None) -> 'Config':
    """Read a config file with its bases, apply overrides, resolve references and check the result.

    Args:
        path: The config file.
        overrides: Texts ``a.b=value`` (``+a.b=value`` adds a key), or a dict from ``'a.b'`` to values.

    Returns:
        An ordinary mmengine Config without references; what it dumps is read back as an equal config.

    Raises:
        ConfigError: For every mistake in the files or the overrides; the message names the place and the fix.
    """
    require_mmengine()
    from mmengine.config import Config  # noqa: PLC0415 (the check comes first)

    path = Path(path)
    raw = _read_file(path, ())
    given = _parse_overrides(overrides)
    if given:
        tree = _override_tree(given)
        _import_custom(tree, '--cfg-options')
        added = frozenset(override.path for override in given if override.add)
        raw = Merger('--cfg-options', from_command_line=True, added=added).merge(tree, raw)
    resolved = resolve_references(raw)
    check_types(raw, resolved)
    return Config(resolved, filename=str(path))


def parse_override(text: str) -> Override:
    """Split ``a.b.c=value`` and read the value.

    A Python literal is read as such (``1e-3``, ``(1, 2)``, ``[1, 2]``, ``{'a': 1}``, ``'text'``), ``true``,
    ``false`` and ``none`` in any case as the constants, and anything else is a string.
    """
    key, equals, value = text.partition('=')
    if not equals:
        raise ConfigError(f'the override {text!r} is not of the form key=value')
    return _override(key.strip(), _parse_value(value.strip(), text))


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments ``config`` and ``--cfg-options`` that all tools share."""
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='override config values, e.g. codec.sigma=3 train_pipeline.0.prob=0.5; +key=value adds a key',
    )


def config_from_args(args: argparse.Namespace) -> 'Config':
    """Load the config that the arguments of :func:`add_config_arguments` name."""
    return load_config(args.config, args.cfg_options)


def _read_file(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    """Return the merged keys of a file and its bases; ``children`` are the files that led here."""
    try:
        cyclic, exists = path.resolve() in [child.resolve() for child in children], path.is_file()
    except (OSError, ValueError) as error:
        raise ConfigError(f'{str(path)[:200]!r} cannot be the name of a config file ({error.args[-1]})') from error
    if cyclic:
        chain = ' -> '.join(str(file) for file in (*children, path))
        raise ConfigError(f'cyclic _base_: {chain}')
    if not exists:
        asked = f' (a _base_ of {children[-1]})' if children else ''
        raise ConfigError(f'config file {path}{asked} does not exist{_near_files(path)}')
    namespace = _execute(path)
    own = {
        key: plain(value, f'{key!r} in {path}')
        for key, value in namespace.items()
        if not (key.startswith('_') or isinstance(value, ModuleType) or callable(value))
    }
    _import_custom(own, str(path))
    bases = _base_paths(namespace.get('_base_', ()), path)
    if not bases:
        return without_delete(own)
    merged: dict[str, Any] = {}
    owners: dict[str, Path] = {}
    for base in bases:
        for key, value in _read_file(base, (*children, path)).items():
            if key in owners:
                raise ConfigError(f'{key!r} is defined by two bases of {path}: {owners[key]} and {base}')
            merged[key], owners[key] = value, base
    return Merger(str(path)).merge(own, merged)


def _execute(path: Path) -> dict[str, Any]:
    if path.suffix != '.py':
        raise ConfigError(f'{path} is not a Python file; configs are .py files')
    namespace = {'__file__': str(path), '__name__': '__config__', '__builtins__': _BUILTINS}
    try:
        exec(compile(path.read_bytes(), str(path), 'exec', dont_inherit=True), namespace)
    except SyntaxError as error:
        raise ConfigError(f'{error.filename}:{error.lineno}: syntax error: {error.msg}') from error
    except Exception as error:
        line = _last_line(error.__traceback__, str(path))
        raise ConfigError(f'{path}:{line}: {type(error).__name__}: {error}') from error
    return namespace


def _last_line(traceback: TracebackType | None, filename: str) -> int:
    line = 0
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == filename:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def _base_paths(bases: Any, path: Path) -> list[Path]:
    names = [bases] if isinstance(bases, str) else bases
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f'_base_ of {path} is a file name or a list of them, not {bases!r}')
    return [Path(os.path.normpath(path.parent / name)) for name in names]


def _near_files(path: Path) -> str:
    if path.is_dir():
        return '; it is a folder'
    if not path.parent.is_dir():
        return f'; neither does the folder {path.parent}'
    files = [*path.parent.glob('*.py'), *path.parent.glob('*/*.py')]
    near = difflib.get_close_matches(path.name, {file.name for file in files})
    found = sorted(str(file) for file in files if file.name in near)
    return f'; near it: {", ".join(found[:5])}' if found else ''


def _import_custom(cfg: Mapping[str, Any], origin: str) -> None:
    """Import the user's modules named in ``custom_imports``, so that their types are known to the checks."""
    if not isinstance(cfg.get('custom_imports'), dict):
        return
    from mmengine.utils import import_modules_from_strings  # noqa: PLC0415

    try:
        import_modules_from_strings(**cfg['custom_imports'])
    except (ImportError, TypeError) as error:
        raise ConfigError(f'custom_imports in {origin}: {error.__context__ or error}') from error


def _parse_overrides(overrides: Sequence[str] | Mapping[str, Any] | None) -> list[Override]:
    if isinstance(overrides, Mapping):
        return [_override(key, value) for key, value in overrides.items()]
    if isinstance(overrides, str):
        raise ConfigError(f'overrides are a list of texts or a dict, not the text {overrides!r}')
    return [parse_override(text) for text in overrides or ()]


def _override(key: str, value: Any) -> Override:
    path = tuple(key.removeprefix('+').split('.'))
    if not all(path):
        raise ConfigError(f'the override {key!r} has an empty name between its dots')
    return Override(path, plain(value, f'the override {key!r}'), key.startswith('+'))


def _parse_value(value: str, text: str) -> Any:
    if value.lower() in _CONSTANTS:
        return _CONSTANTS[value.lower()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # a path with a backslash is no reason to warn
            return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        if value[:1] in ('[', '(', '{', '"', "'"):
            raise ConfigError(
                f"the value in {text!r} is not a Python literal; quote the strings in it, as in key=['a','b']"
            ) from None
        return value


def _override_tree(overrides: Iterable[Override]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for override in overrides:
        branch = override.value
        for name in reversed(override.path):
            branch = {name: branch}
        _graft(branch, tree, '')
    return tree


def _graft(branch: dict[str, Any], tree: dict[str, Any], where: str) -> None:
    for key, value in branch.items():
        if key not in tree:
            tree[key] = value
        elif isinstance(value, dict) and isinstance(tree[key], dict):
            _graft(value, tree[key], f'{where}{key}.')
        elif isinstance(value, dict) or isinstance(tree[key], dict):
            raise ConfigError(f"the overrides give '{where}{key}' both a value and keys below it")
        else:
            tree[key] = value
