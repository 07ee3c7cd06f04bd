"""The reference of the configs: every class that a `type` can name, with its arguments."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from evg import registry
from evg.registry import Registry

Part = Callable[..., Any]

INTRO = """# Parts of a config

Every part of `evg` that a `type` in a config can name, with its arguments, by registry. The parts of mmengine, mmcv and
torch (loops, samplers, optimisers, schedules) can be named as well. [A new experiment](../new_experiment.md) says how
configs are written.
"""
# An argument, or several, of a docstring: 'width, height: what they are', 'width (int): what it is'.
ENTRY = re.compile(r' {4}([*\w]+(?:, [*\w]+)*)(?: \([^)]*\))?: (.*)')
SECTION = re.compile(r'[A-Z][a-z]+:')


def parts_page(root: Path) -> str:
    """Markdown of the page."""
    paths = sorted(root.glob('configs/**/*.py'))
    configs = {path.relative_to(root).as_posix(): path.read_text(encoding='utf-8') for path in paths}
    lines = [INTRO]
    for found, parts in registered_parts():
        lines.append(f'## {found.name[0].upper()}{found.name[1:]}\n')
        for name, part in parts:
            lines += _section(name, part, [path for path, text in configs.items() if f"type='{name}'" in text])
    return '\n'.join(lines) + '\n'


def registered_parts() -> Iterator[tuple[Any, list[tuple[str, Part]]]]:
    """The parts of evg by registry; registries without one are left out."""
    for found in registry._REGISTRIES:
        if isinstance(found, Registry):
            found.import_from_location()
    for found in registry._REGISTRIES:
        parts = [(n, p) for n, p in sorted(found.module_dict.items()) if p.__module__.split('.')[0] == 'evg']
        if parts:
            yield found, parts


def parameters(part: Part) -> dict[str, inspect.Parameter]:
    """The arguments that a config can give, also those that `**kwargs` hand on to a base class."""
    found: dict[str, inspect.Parameter] = {}
    for given in registry._signatures(part):
        for parameter in given:
            if parameter.kind in registry._BY_KEYWORD:
                found.setdefault(parameter.name, parameter)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in given):
            break
    return found


def meaning(part: Part, argument: str) -> str:
    """What the docstring of the part, or of a base class, says about an argument; '' where none does."""
    owners = part.__mro__ if isinstance(part, type) else (part,)
    return next((text for owner in owners if (text := _arguments(owner).get(argument))), '')


def _section(name: str, part: Part, users: list[str]) -> Iterator[str]:
    yield f'### {name}\n'
    room = part.__module__.split('.')[1]
    yield f'[`{part.__module__}.{part.__name__}`](api/{room}.md#{part.__module__}.{part.__name__})\n'
    yield f'{_words(part)}\n'
    rows = [
        f'| `{argument}` | {_code(_type(parameter))} | {_default(parameter)} | {_cell(meaning(part, argument))} |'
        for argument, parameter in parameters(part).items()
    ]
    if rows:
        yield '| argument | type | default | meaning |\n|---|---|---|---|'
        yield '\n'.join(rows) + '\n'
    if users:
        shown = ', '.join(f'[`{path.removeprefix("configs/")}`](../../{path})' for path in users[:5])
        yield f'Named in {shown}{" and others" if len(users) > 5 else ""}.\n'


def _words(part: Part) -> str:
    """The docstring up to its first section."""
    lines = inspect.cleandoc(part.__doc__ or '').splitlines()
    end = next((i for i, line in enumerate(lines) if SECTION.fullmatch(line)), len(lines))
    return '\n'.join(lines[:end]).strip()


def _arguments(owner: Part) -> dict[str, str]:
    """The entries of a docstring's Args."""
    found: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in inspect.cleandoc(owner.__doc__ or '').splitlines():
        if line and not line.startswith(' '):
            inside, names = line in ('Args:', 'Attributes:'), []
        entry = ENTRY.fullmatch(line) if inside else None
        if entry:
            names = entry[1].split(', ')
            found |= dict.fromkeys(names, entry[2])
        else:
            found |= {name: f'{found[name]} {line.strip()}'.strip() for name in names}
    return found


def _type(parameter: inspect.Parameter) -> str:
    if parameter.annotation is parameter.empty:
        return ''
    return inspect.formatannotation(parameter.annotation).replace('typing.', '').replace('collections.abc.', '')


def _default(parameter: inspect.Parameter) -> str:
    return 'required' if parameter.default is parameter.empty else _code(repr(parameter.default))


def _code(text: str) -> str:
    return f'`{_cell(text)}`' if text else ''


def _cell(text: str) -> str:
    return ' '.join(text.split()).replace('|', '\\|')
