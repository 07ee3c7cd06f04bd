"""The rules for config dicts: how they merge, what ``@`` means, and which keys a dict may have."""

import keyword
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from evg.errors import ConfigError, did_you_mean

KeyPath = tuple[str, ...]

# arguments of mmengine's Runner, then further keys that it reads from its config (a test asks mmengine)
RUNNER_KEYS = frozenset(
    """
    model work_dir train_dataloader val_dataloader test_dataloader train_cfg val_cfg test_cfg auto_scale_lr
    optim_wrapper param_scheduler val_evaluator test_evaluator default_hooks custom_hooks data_preprocessor
    load_from resume launcher env_cfg log_processor log_level visualizer default_scope randomness experiment_name
    activation_checkpointing compile efficient_conv_bn_eval find_unused_parameters model_wrapper_cfg sync_bn
    custom_imports
    """.split()  # noqa: SIM905
)
_DELETE = '_delete_'
_SPECIAL = frozenset({'type', '_scope_'})
_RESERVED = frozenset({'filename', 'text', 'pretty_text', 'env_variables'})  # attributes of mmengine's Config
# mmengine passes a dict below one of these names on: it has no fixed keys, and its 'type' is none of ours
_FREE = frozenset(
    (
        'clip_grad',
        'compile',
        'custom_imports',
        'dist_cfg',
        'model_wrapper_cfg',
        'on_trace_ready',
        'paramwise_cfg',
    )
)
_LOADER = (('torch.utils.data.DataLoader',), ('num_batch_per_epoch', 'disable_subprocess_warning'))
_EVALUATOR = (('Evaluator',), ())
# what the Runner builds from a dict without 'type', and keys that it takes out of the dict itself
_UNTYPED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    'train_dataloader': _LOADER,
    'val_dataloader': _LOADER,
    'test_dataloader': _LOADER,
    'train_cfg': (('EpochBasedTrainLoop', 'IterBasedTrainLoop'), ('by_epoch',)),
    'val_cfg': (('ValLoop',), ()),
    'test_cfg': (('TestLoop',), ()),
    'val_evaluator': _EVALUATOR,
    'test_evaluator': _EVALUATOR,
    'optim_wrapper': (('OptimWrapper',), ()),
    'log_processor': (('LogProcessor',), ()),
    'randomness': (('mmengine.runner.set_random_seed',), ()),
    'auto_scale_lr': ((), ('enable', 'base_batch_size')),
    'env_cfg': ((), ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit')),
}


def plain(value: Any, where: str) -> Any:
    """Return a deep copy of a config value; anything that a config file could not hold is an error."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, dict):
        return {key: plain(item, where) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(item, where) for item in value)
    raise ConfigError(
        f'{where} holds a value of type {type(value).__name__}; a config holds only '
        'None, bool, int, float, str, list, tuple and dict'
    )


def without_delete(value: Any) -> Any:
    """Return a copy of a config value without the ``_delete_`` keys in it."""
    if isinstance(value, dict):
        return {key: without_delete(item) for key, item in value.items() if key != _DELETE}
    if isinstance(value, (list, tuple)):
        return type(value)(without_delete(item) for item in value)
    return value


def is_reference(value: Any) -> bool:
    """Tell whether a config value is a reference to another key."""
    return isinstance(value, str) and value.startswith('@')


def _references(value: Any) -> Iterator[str]:
    if is_reference(value):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _references(item)


@dataclass(frozen=True)
class Merger:
    """Merges a child into its base as mmengine does, and rejects keys that do not exist.

    Attributes:
        origin: The file, or other source, of the child; used in messages.
        from_command_line: Whether a key can be an index into a list.
        added: Paths of keys that may be new.
    """

    origin: str
    from_command_line: bool = False
    added: frozenset[KeyPath] = frozenset()

    def merge(self, child: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
        """Return the config that is ``base`` with the changes of ``child``; neither is modified."""
        # a name that the child itself refers to is no misspelt one
        own = {(reference[1:].split('.')[0],) for reference in _references(child)}
        return replace(self, added=self.added | own)._dict(child, base, ())

    def _dict(self, child: dict[str, Any], base: dict[str, Any], path: KeyPath) -> dict[str, Any]:
        merged = dict(base)
        for key, value in child.items():
            if key in base:
                merged[key] = self._value(value, base[key], (*path, str(key)))
            elif key != _DELETE:
                merged[key] = without_delete(value)
        self._check_type_change(base, child, path)
        for key in child:
            if key not in base and key != _DELETE:
                self._check_new_key(key, base, merged, path)
        return merged

    def _value(self, value: Any, base: Any, path: KeyPath) -> Any:
        if not isinstance(value, dict) or value.get(_DELETE) or base is None:
            return without_delete(value)
        if isinstance(base, dict):
            return self._dict(value, base, path)
        name = '.'.join(path)
        if is_reference(base):
            below = '.'.join([base[1:], *map(str, list(value)[:1])])
            raise ConfigError(
                f'{name!r} is the reference {base!r}, {self.origin} cannot change keys below it; '
                f'change {below!r} instead, or replace all of {name!r} by a dict with {_DELETE}=True'
            )
        if self.from_command_line and isinstance(base, (list, tuple)):
            items = list(base)
            for key, item in value.items():
                index = self._index(str(key), items, name)
                items[index] = self._value(item, items[index], (*path, str(key)))
            return type(base)(items)
        raise ConfigError(
            f'{name!r} is of type {type(base).__name__} and has no keys, but {self.origin} sets keys below it; '
            f'a dict with {_DELETE}=True replaces it'
        )

    def _index(self, key: str, items: list[Any], name: str) -> int:
        if key.isdecimal() and int(key) < len(items):
            return int(key)
        valid = f'indices 0 to {len(items) - 1}' if items else 'no entries'
        raise ConfigError(f'{name!r} is a list with {valid}, there is no {name}.{key}')

    def _check_type_change(self, base: dict[str, Any], child: dict[str, Any], path: KeyPath) -> None:
        old, new = base.get('type'), child.get('type')
        if not isinstance(old, str) or not isinstance(new, str) or old == new or is_reference(new):
            return
        accepted = _possible_keys({**base, **child}, path)
        if accepted is None:
            return
        left = [str(key) for key in base if key not in child and key not in accepted]
        if left:
            raise ConfigError(
                f'{self.origin} changes the type of {".".join(path)!r} from {old} to {new}, which takes no '
                f'{", ".join(map(repr, left))} of the base; add {_DELETE}=True to replace the whole dict'
            )

    def _check_new_key(self, key: Any, base: dict[str, Any], merged: dict[str, Any], path: KeyPath) -> None:
        here = (*path, str(key))
        if (path and key in _SPECIAL) or any(added[: len(here)] == here for added in self.added):
            return
        possible = _possible_keys(merged, path) if path else RUNNER_KEYS
        if possible is None or key in possible or (not possible and _is_new_part(merged[key], base)):
            return
        name = '.'.join(here)
        if path and possible:
            problem, advice = _takes_no(merged, path, key, possible | set(base)), ''
        else:
            problem = f'there is no such key{did_you_mean(str(key), {*map(str, base), *possible})}'
            if self.from_command_line:
                advice = f" ('+{name}=' adds it on purpose)"
            else:
                advice = '' if path else f" (a new name needs a reference '@{name}' in the same file)"
        raise ConfigError(f'unknown key {name!r} in {self.origin}: {problem}{advice}')


def resolve_references(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a config where each ``'@a.b'`` is replaced by a copy of the final value of that key."""
    return {key: _Resolver(raw, key).expand(value, ()) for key, value in raw.items()}


@dataclass(frozen=True)
class _Resolver:
    root: dict[str, Any]
    start: str

    def expand(self, node: Any, chain: tuple[str, ...]) -> Any:
        """Copy a value; ``chain`` are the references that are being expanded around it."""
        if isinstance(node, dict):
            return {key: self.expand(value, chain) for key, value in node.items()}
        if isinstance(node, (list, tuple)):
            return type(node)(self.expand(item, chain) for item in node)
        if not is_reference(node):
            return node
        if node in chain:
            self._fail_cycle((*chain, node))
        return self.expand(self._find(node, chain, ()), (*chain, node))

    def _find(self, reference: str, chain: tuple[str, ...], walked: tuple[str, ...]) -> Any:
        if reference in walked:
            self._fail_cycle((*chain, *walked, reference))
        node: Any = self.root
        walked = (*walked, reference)
        place = ''
        for name in reference[1:].split('.'):
            # a reference on the way is followed, but what stands beside the wanted key need not be expanded
            while is_reference(node):
                step, node = node, self._find(node, chain, walked)
                walked = (*walked, step)
            if isinstance(node, dict) and name in node:
                node = node[name]
            elif isinstance(node, (list, tuple)) and name.isdecimal() and int(name) < len(node):
                node = node[int(name)]
            else:
                names = list(node) if isinstance(node, dict) else []
                steps = ' -> '.join((*chain, *walked))
                raise ConfigError(
                    f'{self.start!r} refers to {steps}, but there is no {place + name!r}'
                    f'{did_you_mean(name, map(str, names))}'
                )
            place += f'{name}.'
        return node

    def _fail_cycle(self, chain: tuple[str, ...]) -> None:
        raise ConfigError(f'cyclic reference in {self.start!r}: {" -> ".join(chain)}')


def check_types(raw: dict[str, Any], resolved: dict[str, Any]) -> None:
    """Check every dict with a ``type``, or that the Runner builds, against the arguments of what it builds.

    Args:
        raw: The merged config; values behind references are checked where they are defined.
        resolved: The same without references.
    """
    for key, value in raw.items():
        if not key.isidentifier() or key.startswith('_') or key in _RESERVED:
            raise ConfigError(f'{key!r} cannot be the name of a config key')
        _check_node(value, resolved[key], (key,))


def _check_node(raw: Any, resolved: Any, path: KeyPath) -> None:
    if isinstance(raw, (list, tuple)):
        for index, item in enumerate(raw):
            _check_node(item, resolved[index], (*path, str(index)))
    elif isinstance(raw, dict):
        possible = _possible_keys(resolved, path)
        for key, value in raw.items():
            if possible and key not in possible:
                raise ConfigError(f'{".".join(path)}: {_takes_no(resolved, path, key, possible)}')
            if isinstance(key, str) and (keyword.iskeyword(key) or repr(key) != f"'{key}'"):
                # mmengine would dump it as dict(lambda=...), which is no Python
                raise ConfigError(f'{".".join(path)}: {key!r} cannot be the name of a config key')
            _check_node(value, resolved[key], (*path, str(key)))


def _takes_no(node: Mapping[str, Any], path: KeyPath, key: Any, possible: Iterable[str]) -> str:
    known = [name for name in map(str, possible) if name not in _SPECIAL]
    return f'{node.get("type", path[-1])} takes no {key!r}{did_you_mean(str(key), known)}'


def _possible_keys(node: Mapping[str, Any], path: KeyPath) -> frozenset[str] | None:
    """Return the keys that a dict can have: None if any, an empty set if nothing says which."""
    from evg.registry import accepted_arguments, find_types  # noqa: PLC0415 (a merge without types needs no registry)

    if _FREE.intersection(path):
        return None
    kind = node.get('type')
    if isinstance(kind, str) and not is_reference(kind):
        names: Iterable[str] = [f'{node["_scope_"]}.{kind}' if '_scope_' in node else kind]
        keys = set(_SPECIAL)
    else:
        names, more = _UNTYPED.get('.'.join(path), ((), ()))
        keys = set(more)
    for name in names:
        try:
            found = find_types(name)
        except ConfigError as error:
            raise ConfigError(f'{".".join(path)}: {error}') from None
        for registry, part in found:
            accepted = accepted_arguments(part)
            if accepted is None:
                return None
            keys |= accepted | getattr(registry, 'runner_keys', frozenset())
    return frozenset(keys)


def _is_new_part(value: Any, base: dict[str, Any]) -> bool:
    """Tell whether a dict without fixed keys can get this value: a part joins parts, anything an empty dict."""
    parts = [item for item in (*base.values(), value) if item is not None]
    return not base or all(is_reference(part) or (isinstance(part, dict) and 'type' in part) for part in parts)
