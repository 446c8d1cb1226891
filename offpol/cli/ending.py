"""How every command ends: a sentence for what a person can mend, a traceback for bugs alone."""

from __future__ import annotations

import argparse
import contextlib
import errno
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from offpol.errors import DISK_FULL, ConfigError, RunError
from offpol.output import tell

FAILED, MISTAKE, STOPPED = 1, 2, 130  # exit codes


class Parser(argparse.ArgumentParser):
    """Reads a command line; raises ConfigError for a mistake in it. A description keeps its lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and where to look."""
        raise ConfigError(f"{message[:1].upper()}{message[1:]}: {self.prog} --help tells what there is.")


@contextlib.contextmanager
def ending(command: str, when_stopped: str) -> Iterator[None]:
    """End a command, whose work is done inside, as every command ends.

    The exit code is MISTAKE for a ConfigError, FAILED for a RunError or a full disk, and STOPPED, with the words
    `when_stopped`, after Ctrl-C. Anything else is a bug and passes.
    """
    try:
        yield
    except KeyboardInterrupt:
        tell(f"{command}: {when_stopped}")
        sys.exit(STOPPED)
    except Exception as error:
        if (said := sentence_of(error)) is None:
            raise
        tell(f"{command}: {said}")
        sys.exit(exit_code(error))


def sentence_of(error: Exception) -> str | None:
    """Say what went wrong and the way out; None for a bug, of which only the traceback tells."""
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return f"{error.filename or 'a file'} cannot be written ({error.strerror}): make room, and ask again."
    if name := _too_long(error):
        return f"{name[:40]}... is too long for the name of a file or folder: give a shorter one."
    return str(error) if isinstance(error, ConfigError | RunError) else None


def exit_code(error: Exception) -> int:
    """Return what a command that was ended by an error exits with."""
    return MISTAKE if isinstance(error, ConfigError) or _too_long(error) else FAILED


def _too_long(error: Exception) -> str | None:
    """Return the name that is too long for a file, if that is what went wrong."""
    return str(error.filename) if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG else None
