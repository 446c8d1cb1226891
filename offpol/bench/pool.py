"""Child processes, a bounded number at a time, none of which outlives this process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offpol.bench.plan import Task

LOG_TAIL_BYTES = 8192
RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)(: .*)?$")  # how a traceback names what was raised
PROGRESS = re.compile(r"\d+% ")
COMMAND = (sys.executable, "-m", "offpol.bench.child")


@dataclass
class Child:
    """A running process, what it is for, and where its output goes."""

    task: Task
    process: subprocess.Popen[bytes]
    log: Path


class Pool:
    """Runs `offpol` in child processes (see child.py)."""

    def __init__(self) -> None:
        self.children: list[Child] = []

    def start(self, task: Task, arguments: Sequence[str], log: Path) -> None:
        """Start `offpol` with these arguments; what it prints is appended to `log`."""
        self.children.append(Child(task, start_child(arguments, log), log))

    def ended(self) -> list[tuple[Task, int, Path]]:
        """Return task, exit code and log of the children that have ended since the last call."""
        over = [child for child in self.children if child.process.poll() is not None]
        self.children = [child for child in self.children if child not in over]
        for child in over:
            close_input(child.process)
        return [(child.task, child.process.returncode, child.log) for child in over]

    def ask_to_end(self) -> None:
        """Ask every child to save itself and end, by what happens anyway when this process ends.

        A signal beside that would be a second one if this process is killed soon after, and a second one is obeyed at
        once, without saving.
        """
        for child in self.children:
            close_input(child.process)

    def kill(self) -> None:
        """End every child at once, with all that it started."""
        for child in self.children:
            os.killpg(child.process.pid, signal.SIGKILL)
        for child in self.children:
            child.process.wait()


def start_child(arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start `offpol` in a process that saves itself and ends when this one does; what it prints goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.PIPE,  # closes with this process, which ends the child
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"OMP_NUM_THREADS": "1", **os.environ},
            start_new_session=True,  # Ctrl-C reaches the children through this process alone
        )


def close_input(process: subprocess.Popen[bytes]) -> None:
    """Close a child's pipe: a run that goes on is asked to save itself and end."""
    assert process.stdin is not None
    process.stdin.close()


def reason(code: int, log: Path) -> str:
    """Say why a child failed: the signal that ended it, its exception, or the last line it printed."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    if not log.is_file():
        return "never begun"
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_TAIL_BYTES))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    said = [line for line in lines if line]
    # A log goes on where a run does: what ended an earlier attempt lies before the newest line of progress.
    newest = max((i for i, line in enumerate(said) if PROGRESS.match(line)), default=-1)
    raised = [line for line in said[newest + 1 :] if RAISED.match(line)]
    if raised and not said[-1].startswith("offpol"):  # notes behind it say where, not why
        return raised[-1]
    return said[-1] if said else f"exit code {code}, nothing printed"
