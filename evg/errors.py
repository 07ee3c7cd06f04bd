"""Errors whose message is written for the user, and the one place where tools turn them into an exit code."""

import argparse
import contextlib
import difflib
import errno
import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import ParamSpec, TypeVar

P = ParamSpec('P')
T = TypeVar('T')


# What keeps a machine from writing anything more.
CANNOT_WRITE = {
    errno.ENOSPC: 'the disk is full',
    errno.EDQUOT: 'the disk quota is used up',
    errno.EFBIG: 'the file is larger than the system allows',
    errno.EROFS: 'the disk is read-only',
}


class UserError(Exception):
    """A mistake of the user's: the message says what was given, what is allowed, and how to fix it."""


class ConfigError(UserError, ValueError):
    """A mistake in a config file, in ``--cfg-options``, or in a dict given to a registry."""


def did_you_mean(name: str, candidates: Iterable[str], shown: int = 20) -> str:
    """Return the tail of an error message that points from a misspelt name to the nearest known ones.

    Args:
        name: What the user wrote.
        candidates: What the user could have written.
        shown: Up to how many known names to list all of them when none is near.

    Returns:
        ``"; did you mean 'x'?"``, or ``"; known: a, b"`` if nothing is near, or ``""``.
    """
    known = {str(candidate).lower(): str(candidate) for candidate in candidates}
    near = difflib.get_close_matches(name.lower(), known, n=3)
    if near:
        score = [difflib.SequenceMatcher(None, match, name.lower()).ratio() for match in near]
        near = [match for match, ratio in zip(near, score, strict=True) if ratio > score[0] - 0.1]
        return f'; did you mean {" or ".join(repr(known[match]) for match in near)}?'
    return f'; known: {", ".join(sorted(known.values()))}' if 0 < len(known) <= shown else ''


def positive(text: str) -> int:
    """A whole number of at least 1, as the ``type`` of a tool's option."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{text} is not at least 1')
    return value


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Print a :class:`UserError` or a full disk as one line ``error: ...`` and exit with 2; exit with 130 on Ctrl-C."""
    try:
        yield
    except UserError as error:
        # Torch hands on an error of a loader's worker with the whole traceback as its text.
        name = f'{type(error).__name__}: '
        text = str(error).rpartition(name)[2] if 'Original Traceback' in str(error) else str(error)
        lines = [line.strip() for line in text.splitlines()]
        print(f'error: {" ".join(line for line in lines if line)}', file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        print(
            f'error: {CANNOT_WRITE[error.errno]}, writing {error.filename or "a file"}: what was finished is whole; '
            'make room and go on (tools/train.py: with --resume)',
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(130)


def run_tool(main: Callable[P, T]) -> Callable[P, T]:
    """Decorate the ``main`` of a tool so that it ends as :func:`user_errors` says."""

    @functools.wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with user_errors():
            return main(*args, **kwargs)

    return run


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """Enclose imports of a tool: a module that is not installed ends it, as :func:`user_errors` does, with the remedy.

    Args:
        extra: Of setup.py, which brings the modules.
    """
    with user_errors():
        try:
            yield
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition('.')[0] == 'evg':
                raise
            raise UserError(
                f"this tool needs the extra {extra} (no module {error.name}): pip install -e '.[{extra}]' in the clone "
                'of evg'
            ) from None
