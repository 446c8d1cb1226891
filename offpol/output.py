"""Words for a person, whether anybody still listens (`offpol | head`) or not: what matters is in files."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def say(text: str) -> None:
    """Print to standard output."""
    _print(text, sys.stdout)


def tell(text: str) -> None:
    """Print to standard error: what is said on the way, and what went wrong."""
    _print(text, sys.stderr)


def is_terminal() -> bool:
    """Tell whether standard error is a person's screen."""
    return sys.stderr is not None and sys.stderr.isatty()


def _print(text: str, stream: TextIO | None) -> None:
    if stream is None:  # as where it was closed before Python began
        return
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or Python would complain again when it exits
