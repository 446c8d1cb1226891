"""What a user can mend is said in one sentence, without a traceback."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what an OSError says then


class ConfigError(ValueError):
    """A mistake in what was asked for; the message is one sentence that names it and the way out."""


class RunError(RuntimeError):
    """A run cannot go on; the message says in one sentence what happened and what to do. Exit code 1, no traceback."""


def install(extra: str) -> str:
    """Say how an extra is installed, in a clone as README.md has it."""
    return f'pip install -c constraints.txt -e ".[{extra}]"'


def did_you_mean(word: str, options: Iterable[str], parent: str = "") -> str:
    """Return ": did you mean 'x'?" for the option nearest to a mistyped word, or "" where none is near.

    With a `parent`, word and options are names inside it, and the answer says `parent.x`.
    """
    near = difflib.get_close_matches(word, list(options), n=1, cutoff=0.55)
    return f": did you mean '{parent + '.' if parent else ''}{near[0]}'?" if near else ""
