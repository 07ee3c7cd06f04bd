"""The reference of the command line: every tool's options, read from its parser."""

import argparse
import importlib.util
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

INTRO = """# Command line

Every tool with its arguments, read from its parser. A tool exits with 0 when it has done its work, with 2 after a
mistake of the user, whose message stands on one line, and with 130 after Ctrl-C.
"""


class _Caught(BaseException):
    """Carries a tool's parser out of it."""


def cli_page(root: Path) -> str:
    """Markdown of the page."""
    lines = [INTRO]
    for path in sorted((root / 'tools').rglob('*.py')):
        lines += _section('##', path.relative_to(root).as_posix(), parser_of(path))
    return '\n'.join(lines) + '\n'


def parser_of(path: Path) -> argparse.ArgumentParser:
    """The parser that a tool makes; nothing else of the tool runs."""

    def catch(parser: argparse.ArgumentParser, *_args: Any) -> None:
        raise _Caught(parser)

    spec = importlib.util.spec_from_file_location(f'tool_{path.stem}', path)
    if spec is None or spec.loader is None:
        raise ValueError(f'{path} is no module')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    start = getattr(tool, 'parse_args', None) or inspect.unwrap(tool.main)
    with mock.patch.object(argparse.ArgumentParser, 'parse_args', catch):
        try:
            start()
        except _Caught as caught:
            return caught.args[0]
    raise ValueError(f'{path} parses no arguments')


def _section(marks: str, name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f'{marks} {name}\n'
    yield f'{_sentence(parser.description or "")}\n'
    commands: dict[str, argparse.ArgumentParser] = {}
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            commands = action.choices
            rows.append(f'| `{action.metavar}` | required | one of those below |')
        elif action.help is not argparse.SUPPRESS and not isinstance(action, argparse._HelpAction):
            rows.append(_row(parser, action))
    if rows:
        yield '| argument | default | meaning |\n|---|---|---|'
        yield '\n'.join(rows) + '\n'
    for command, its_parser in commands.items():
        yield from _section(f'{marks}#', f'{Path(name).name} {command}', its_parser)


def _row(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    metavar = action.dest.upper() if action.option_strings else action.dest
    value = parser._get_formatter()._format_args(action, metavar)
    shown = ', '.join(f'`{f"{name} {value}".strip()}`' for name in action.option_strings or [''])
    meaning = (action.help or '') % {'default': action.default, 'prog': parser.prog}
    return f'| {_cell(shown)} | {_cell(_default(action))} | {_cell(_plain(meaning))} |'


def _default(action: argparse.Action) -> str:
    value = action.default
    if action.required:
        return 'required'
    if value is None or value is False or value == []:
        return ''
    return f'`{" ".join(map(str, value)) if isinstance(value, (list, tuple)) else value}`'


def _sentence(text: str) -> str:
    text = _plain(' '.join(text.split()))
    return f'{text}.' if text and text[-1] not in '.:' else text


def _plain(text: str) -> str:
    """Text without markup; its own characters of Markdown are escaped."""
    return re.sub(r'([\\`*_\[\]<])', r'\\\1', text)


def _cell(text: str) -> str:
    return ' '.join(text.split()).replace('|', '\\|')
