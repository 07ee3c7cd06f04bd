"""The registries: which class a ``type`` in a config names.

Backbones, necks, heads, losses and codecs have registries of their own; the registry of everything that
mmengine's Runner builds is a child of mmengine's, used with ``default_scope='evg'``. Modules are imported when a
type is looked up.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry as MMEngineRegistry
from mmengine.registry import root

from evg.errors import ConfigError, UserError, did_you_mean

SCOPE = 'evg'
_PLAIN_DATA = (str, bytes, int, float, list, tuple, set, type(None))
_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_NOT_ARGUMENTS = {'type', '_scope_'}


class Registry(MMEngineRegistry):
    """mmengine's registry with errors that name the class, the bad key and the nearest good one.

    Args:
        name: What the registered parts are, in singular; used in messages.
        parent: The registry of mmengine in which the Runner looks.
        locations: Modules to import before the first look-up.
        runner_keys: Keys that the Runner takes out of a config dict before it builds the part.
    """

    def __init__(
        self,
        name: str,
        parent: MMEngineRegistry | None = None,
        locations: Iterable[str] = (),
        runner_keys: Iterable[str] = (),
    ) -> None:
        super().__init__(name, parent=parent, scope=SCOPE, locations=list(locations))
        self.runner_keys = frozenset(runner_keys)

    def build(self, cfg: Any, default_args: Mapping[str, Any] | None = None) -> Any:
        """Build a part from its config dict; return a part that is already built as it is.

        Args:
            cfg: A dict with ``type`` and the arguments of that class, or a built object.
            default_args: Arguments to add where ``cfg`` does not give them.

        Raises:
            ConfigError: For an unknown type, an argument that the class does not take, a missing one, or a value that
                the class refuses by a ValueError.
        """
        if isinstance(cfg, _PLAIN_DATA):
            raise ConfigError(f"a {self.name} is a dict with 'type' or a built object, not {cfg!r}")
        if not isinstance(cfg, (dict, Config)):
            return cfg
        given = {**(default_args or {}), **cfg}
        if 'type' not in given:
            raise ConfigError(f"the dict of a {self.name} needs a 'type', got the keys {sorted(given)}")
        cls = self.lookup(given['type'])
        check_arguments(cls, [key for key in cfg if key not in _NOT_ARGUMENTS])
        missing = [key for key in _required_arguments(cls) if key not in given]
        if missing:
            raise ConfigError(f'{type_name(cls)} needs {", ".join(map(repr, missing))}')
        # whatever default scope is active, parts inside this one are looked up in evg
        try:
            return super().build({'_scope_': SCOPE, **given})
        except UserError:
            raise
        except ValueError as error:
            raise ConfigError(f'{type_name(cls)}: {error}') from error

    def lookup(self, name: Any) -> Callable[..., Any]:
        """Return the class or function that ``name`` stands for (a class stands for itself)."""
        self.import_from_location()
        found = _find(self, name) if isinstance(name, str) else name
        if not callable(found):
            raise ConfigError(f'unknown {self.name} {name!r}{did_you_mean(str(name), self.names())}')
        return found

    def names(self) -> set[str]:
        """Return every name that can be looked up here without a scope."""
        self.import_from_location()
        return {name for registry in _with_parents(self) for name in registry.module_dict}


BACKBONES = Registry('backbone', locations=['evg.models'])
NECKS = Registry('neck', locations=['evg.models'])
HEADS = Registry('head', locations=['evg.models'])
LOSSES = Registry('loss', locations=['evg.models'])
CODECS = Registry('codec', locations=['evg.codecs'])

MODELS = Registry('model', root.MODELS, ['mmengine.model', 'evg.models'])
MODEL_WRAPPERS = Registry('model wrapper', root.MODEL_WRAPPERS, ['mmengine.model'])
WEIGHT_INITIALIZERS = Registry('weight initializer', root.WEIGHT_INITIALIZERS, ['mmengine.model'])
DATASETS = Registry('dataset', root.DATASETS, ['mmengine.dataset', 'evg.datasets.gaze_dataset', 'evg.datasets.collate'])
DATA_SAMPLERS = Registry('data sampler', root.DATA_SAMPLERS, ['mmengine.dataset', 'evg.datasets.samplers'])
TRANSFORMS = Registry('transform', root.TRANSFORMS, ['mmcv.transforms', 'evg.datasets.transforms'])
METRICS = Registry('metric', root.METRICS, ['mmengine.evaluator', 'evg.evaluation'])
EVALUATOR = Registry('evaluator', root.EVALUATOR, ['mmengine.evaluator'])
HOOKS = Registry('hook', root.HOOKS, ['mmengine.hooks', 'evg.engine'], runner_keys=['priority'])
LOOPS = Registry('loop', root.LOOPS, ['mmengine.runner', 'evg.engine'])
LOG_PROCESSORS = Registry('log processor', root.LOG_PROCESSORS, ['mmengine.runner'])
OPTIMIZERS = Registry('optimizer', root.OPTIMIZERS, ['mmengine.optim', 'evg.engine'])
OPTIM_WRAPPERS = Registry(
    'optimizer wrapper',
    root.OPTIM_WRAPPERS,
    ['mmengine.optim', 'evg.engine'],
    runner_keys=['constructor', 'paramwise_cfg'],
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor', root.OPTIM_WRAPPER_CONSTRUCTORS, ['mmengine.optim', 'evg.engine']
)
PARAM_SCHEDULERS = Registry(
    'parameter scheduler',
    root.PARAM_SCHEDULERS,
    ['mmengine.optim', 'evg.engine'],
    runner_keys=['convert_to_iter_based', 'epoch_length'],
)
VISUALIZERS = Registry('visualizer', root.VISUALIZERS, ['mmengine.visualization', 'evg.engine'])
VISBACKENDS = Registry('visualizer backend', root.VISBACKENDS, ['mmengine.visualization', 'evg.engine'])
# the Runner looks up collate functions in the root registry whatever the scope, so a child would not be found
FUNCTIONS = root.FUNCTIONS

_REGISTRIES: tuple[MMEngineRegistry, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, MMEngineRegistry)
)


def find_types(name: str) -> list[tuple[MMEngineRegistry, Callable[..., Any]]]:
    """Return all parts that a ``type`` in a config can mean, with the registry of each.

    Args:
        name: A registered name, one with a scope (``mmengine.Adam``), or a full path (``torch.optim.Adam``).

    Raises:
        ConfigError: When no registry knows the name; the message has the nearest names.
    """
    for registry in _REGISTRIES:
        registry.import_from_location()
    parts = [(registry, _find(registry, name)) for registry in _REGISTRIES]
    found = [(registry, part) for registry, part in parts if callable(part)]
    if not found:
        known = {n for r in _REGISTRIES for owner in _with_parents(r) for n in owner.module_dict}
        raise ConfigError(f'unknown type {name!r}{did_you_mean(name, known)}')
    return found


def accepted_arguments(part: Callable[..., Any]) -> frozenset[str] | None:
    """Return the names of the keyword arguments of a class or function, None if it takes any.

    An ``__init__`` with both ``*args`` and ``**kwargs`` hands them on, as mmengine's schedulers and ``nn.Module`` do,
    so the next class in line says what is taken; with ``**kwargs`` alone a class takes anything.
    """
    names: set[str] = set()
    for parameters in _signatures(part):
        names |= {p.name for p in parameters if p.kind in _BY_KEYWORD}
        kinds = {p.kind for p in parameters}
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            return frozenset(names)
        if inspect.Parameter.VAR_POSITIONAL not in kinds or not inspect.isclass(part):
            return None
    # handed on to object, which takes nothing; or no signature was found
    return frozenset(names) if inspect.isclass(part) and _inits(part) else None


def check_arguments(part: Callable[..., Any], keys: Iterable[str]) -> None:
    """Raise a ConfigError for the first of ``keys`` that ``part`` does not take."""
    accepted = accepted_arguments(part)
    if accepted is None:
        return
    for key in keys:
        if key not in accepted:
            raise ConfigError(f'{type_name(part)} takes no {key!r}{did_you_mean(str(key), accepted)}')


def type_name(part: Callable[..., Any]) -> str:
    """Return the name of a class or function for messages."""
    return getattr(part, '__name__', repr(part))


def _required_arguments(part: Callable[..., Any]) -> list[str]:
    return [p.name for p in next(_signatures(part), ()) if p.default is p.empty and p.kind in _BY_KEYWORD]


def _signatures(part: Callable[..., Any]) -> Iterator[Sequence[inspect.Parameter]]:
    """Yield the parameters of a part, then those of each ``__init__`` that its own may hand arguments on to."""
    try:
        yield list(inspect.signature(part).parameters.values())
    except ValueError:  # some classes written in C have no signature
        return
    if inspect.isclass(part):
        for init in _inits(part)[1:]:
            yield list(inspect.signature(init).parameters.values())[1:]


def _inits(cls: type) -> list[Callable[..., Any]]:
    """Return the ``__init__`` functions in the order of inheritance; none if one of them is not Python."""
    inits = [vars(base)['__init__'] for base in cls.__mro__[:-1] if '__init__' in vars(base)]
    return inits if all(inspect.isfunction(init) for init in inits) else []


def _find(registry: MMEngineRegistry, name: str) -> Any:
    if '.' in name:
        try:
            return registry.get(name)
        except RuntimeError:  # mmengine's answer to text that cannot be a path
            return None
    # not Registry.get: for an unknown plain name it imports a module of that name, say ./train.py
    for owner in _with_parents(registry):
        if name in owner.module_dict:
            return owner.module_dict[name]
    return None


def _with_parents(registry: MMEngineRegistry | None) -> Iterator[MMEngineRegistry]:
    while registry is not None:
        yield registry
        registry = registry.parent
