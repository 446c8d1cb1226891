"""What a bench shows: a live table on a terminal, a line per event elsewhere, a plan before, a verdict at the end."""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from offpol.bench.plan import Paces, Task, makespan
from offpol.output import say, tell
from offpol.record.own_code import other_code
from offpol.record.run_directory import METRICS
from offpol.record.run_results import RunResult, last_row
from offpol.record.run_summary import duration

REDRAW_EVERY_S = 2.0
PLAIN_EVERY_S = 300.0  # between two summaries, where the output is no terminal


def plan_text(tasks: Sequence[Task], paces: Paces, jobs: int | None) -> str:
    """List what would run, a line per agent and game, and how long it would take; see `total_text`."""
    lines = []
    groups: dict[tuple[str, str], list[Task]] = defaultdict(list)
    for task in tasks:
        groups[task.job.label, task.job.game].append(task)
    for (label, game), members in sorted(groups.items()):
        seconds = [paces.seconds(task) for task in members]
        known = None if None in seconds else sum(s for s in seconds if s)
        what = ", ".join(
            f"seed {task.job.seed} {task.state}" + (f" at {task.agent_steps:,}" if task.state == "resume" else "")
            for task in members
        )
        todo = any(task.state != "finished" for task in members)
        lines.append(f"  {label}  {game}: {what}" + (f"  ({duration(known)})" if todo else ""))
    return "\n".join([*lines, total_text(tasks, paces, jobs)])


def total_text(tasks: Sequence[Task], paces: Paces, jobs: int | None) -> str:
    """Say in a sentence how much there is to do, and how long it takes by the speeds measured so far.

    `jobs` run at a time; None: as many as a launcher has room for, so that only the sum can be told.
    """
    count = {state: sum(task.state == state for task in tasks) for state in ("finished", "resume", "start")}
    todo = [task for task in tasks if task.state != "finished"]
    steps = sum(task.budget - task.agent_steps for task in todo)
    head = (
        f"{len(tasks)} run{'s' * (len(tasks) != 1)}: {count['finished']} finished, {count['resume']} to go on, "
        f"{count['start']} to start; {steps:,} agent steps to go, {f'{jobs} at a time' if jobs else 'by the launcher'}"
    )
    if not todo:
        return head + "."
    seconds = [paces.seconds(task) for task in todo]
    known = [s for s in seconds if s is not None]
    if not known:
        return head + "; no run like these was measured yet, so nothing is known of how long it takes."
    guess = sum(known) / len(known)
    left = makespan([guess if s is None else s for s in seconds], jobs or 1)
    unknown = len(seconds) - len(known)
    doubt = f", taking {unknown} unmeasured runs for average ones" if unknown else ""
    return head + f": about {duration(left)}{'' if jobs else ' one after the other'} by measured speeds{doubt}."


def tell_of_other_code(tasks: Iterable[Task]) -> None:
    """Say which parts are not by the code that runs of this bench were made with, which stand for it all the same."""
    begun = [RunResult(task.directory, task.job.cfg) for task in tasks if task.state != "start"]
    for part, count in Counter(part for run in begun for part in other_code(run.info)).items():
        runs = f"{count} of these runs {'was' if count == 1 else 'were'} made"
        tell(
            f"offpol-bench: The code of {part} is not what {runs} with: move their folders away, or name another out=, "
            "for runs by the new code."
        )


class View:
    """Shows how a bench is going."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total = title, total
        self.is_terminal = sys.stdout.isatty()
        self._began = time.monotonic()
        self._drawn = 0  # lines of the table that stand on the terminal
        self._last = float("-inf")

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._erase()
        say(line)
        self._last = min(self._last, time.monotonic() - REDRAW_EVERY_S)

    def show(
        self, running: Sequence[Task], waiting: Sequence[Task], finished: int, failed: int, paces: Paces, jobs: int
    ) -> None:
        """Draw the table, if it is time to."""
        now = time.monotonic()
        if now - self._last < (REDRAW_EVERY_S if self.is_terminal else PLAIN_EVERY_S):
            return
        self._last = now
        rows = [_row(task, paces) for task in running]
        lefts = [row[-1] for row in rows] + [paces.seconds(task) for task in waiting]
        known = [left for left in lefts if left is not None]
        left = makespan([sum(known) / len(known) if s is None else s for s in lefts], jobs) if known else None
        to_go = f", about {duration(left)} to go" if left is not None else ""
        head = (
            f"{self.title}: {finished}/{self.total} done, {len(running)} running, {len(waiting)} waiting, "
            f"{failed} failed; {duration(now - self._began)}{to_go}"
        )
        ends = ["" if row[-1] is None else f"{duration(row[-1])} left" for row in rows]
        lines = [head, *_aligned([(*row[:-1], end) for row, end in zip(rows, ends, strict=True)])]
        self._erase()
        if self.is_terminal:
            lines = _fitting(lines)
        say("\n".join(lines))
        self._drawn = len(lines) if self.is_terminal else 0

    def _erase(self) -> None:
        if self._drawn:
            print(f"\x1b[{self._drawn}F\x1b[J", end="")
            self._drawn = 0


def _row(task: Task, paces: Paces) -> tuple[str, str, str, str, str, str, float | None]:
    """Read how far a run is: label, game, seed, share, speed, return, seconds left."""
    row: Mapping[str, float] = last_row(task.directory / METRICS)
    steps = int(row.get("agent_steps", task.agent_steps))
    speed = row.get("machine/agent_steps_per_s")
    shown = f"{speed:.0f} steps/s" if speed else "starting"
    left = (task.budget - steps) / speed if speed else paces.seconds(task, steps)
    if speed and steps >= task.budget:
        shown, left = "evaluating", None
    score = row.get("episode_return")
    share = f"{min(1.0, steps / task.budget):4.0%}"
    return (
        task.job.label, task.job.game, f"seed {task.job.seed}", share, shown,
        "" if score is None else f"return {score:.1f}", left,
    )  # fmt: skip


def _fitting(lines: list[str]) -> list[str]:
    """Cut what a terminal would wrap or scroll away: it could not be drawn over."""
    width, height = shutil.get_terminal_size()
    if len(lines) >= height:
        lines = [*lines[: height - 2], f"  and {len(lines) - height + 2} more"]
    return [line if len(line) < width else f"{line[: width - 2]}…" for line in lines]


def _aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    rows = list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)] if rows else []
    return ["  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]


def verdict(failures: Sequence[tuple[Task, str]], out: Path) -> str:
    """Say how a bench ended: what failed and why, and what to do next."""
    lines = [f"  {task.name}: {why}\n    {task.log}" for task, why in failures]
    if lines:
        lines = [f"{len(failures)} failed:", *lines, "The same command again tries them once more."]
    return "\n".join([*lines, f"Report: offpol-report {out} --out {out / 'report'}"])
