"""What a bench still has to do: which runs are finished, which go on, which start, and how long that takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from offpol.bench.suite import Job
from offpol.record.identity import agent_identity, pace_identity, run_identity
from offpol.record.run_directory import EVALUATION, METRICS
from offpol.record.run_keys import ON_DEVICE
from offpol.record.run_results import RunResult


@dataclass(frozen=True)
class Task:
    """A job, and the folder where it stands."""

    job: Job
    directory: Path
    state: Literal["finished", "resume", "start"]
    agent_steps: int  # taken already
    elsewhere: tuple[str, ...] = ()  # overrides of where it is computed, if it goes on with others than it began with

    @property
    def name(self) -> str:
        """Say it in a few words."""
        return f"{self.job.label} {self.job.game} seed {self.job.seed}"

    @property
    def budget(self) -> int:
        """Agent steps in all."""
        return int(self.job.cfg["run"]["agent_steps"])

    @property
    def log(self) -> Path:
        """Where its output goes; the run's own folder must be new when it starts."""
        return self.directory.with_name(self.directory.name + ".log")

    def arguments(self, *more: str, config_dir: str | None = None) -> list[str]:
        """Return what `offpol` is called with; `more` are overrides of how it runs, not of what it learns.

        `config_dir` is a folder of further yaml.
        """
        if self.state == "resume":
            return [*self.elsewhere, *more, f"resume={self.directory}"]
        place = "'" + str(self.directory).replace("\\", "\\\\").replace("'", "\\'") + "'"
        flags = ["--config-dir", config_dir] if config_dir else []
        return [*flags, *self.job.overrides, *more, f"hydra.run.dir={place}"]


def tasks(jobs: Iterable[Job], found: Iterable[RunResult], out: Path) -> list[Task]:
    """Match the jobs with the runs found; what was begun without a checkpoint starts again in a new folder."""
    best: dict[tuple[str, int], RunResult] = {}
    for run in found:
        key = run.identity, run.seed
        if key not in best or _progress(run) > _progress(best[key]):
            best[key] = run
    return [_task(job, best.get((job.identity, job.seed)), out) for job in jobs]


def _progress(run: RunResult) -> tuple[bool, int]:
    return run.finished, run.saved_agent_steps


def _task(job: Job, run: RunResult | None, out: Path) -> Task:
    if run and run.finished:
        return Task(job, run.directory, "finished", run.budget)
    if run and run.saved_agent_steps:
        return Task(job, run.directory, "resume", run.saved_agent_steps, _elsewhere(job.cfg, run.cfg))
    return Task(job, _free_folder(job, out), "start", 0)


def _elsewhere(asked: Mapping[str, Any], saved: Mapping[str, Any]) -> tuple[str, ...]:
    """List what is asked of devices and was not so before, as overrides; the replay stays where it was."""
    wanted = {key: asked["run"][key] for key in ("device", "actor_device", "compile", "cuda_graph")}
    wanted["cuda_graph"] = wanted["cuda_graph"] and saved["replay"]["_target_"] in ON_DEVICE
    changed = {key: value for key, value in wanted.items() if saved["run"].get(key, value) != value}
    return tuple(f"run.{key}={json.dumps(value)}" for key, value in changed.items())


def _free_folder(job: Job, out: Path) -> Path:
    label = re.sub(r"[^A-Za-z0-9_.=,+-]", "-", job.label)[:80]
    place = out / f"{label}-{job.agent[:6]}" / job.game
    names = (f"seed{job.seed}{suffix}" for suffix in ("", *(f"-again{n}" for n in range(1, 10_000))))
    return next(place / name for name in names if not (place / name).exists())


# ------------------------------------------------------------------------------------------------- time


class Pace(NamedTuple):
    """How fast a run was: agent steps per second of training, seconds of evaluation."""

    agent_steps_per_s: float
    evaluation_s: float


class Paces:
    """Measured speeds, looked up for a job by runs like it: other seeds, else other games, else other budgets.

    A GPU says nothing of a CPU, nor updates that are compiled or recorded of those that are not.
    """

    def __init__(self, runs: Iterable[RunResult] = ()) -> None:
        self._measured: dict[tuple[str, ...], list[Pace]] = {}
        for run in runs:
            self.add(run)

    def add(self, run: RunResult) -> None:
        """Take a run into account, once it has logged something."""
        row = run.last_row
        if not row.get("machine/wall_s"):
            return
        pace = Pace(row["agent_steps"] / row["machine/wall_s"], _evaluation_s(run))
        for key in _keys(run.cfg):
            self._measured.setdefault(key, []).append(pace)

    def of(self, cfg: Any) -> Pace | None:
        """Return the mean pace of the runs most like this config; None where nothing was measured."""
        for key in _keys(cfg):
            if key in self._measured:
                speeds, evaluations = zip(*self._measured[key], strict=True)
                return Pace(sum(speeds) / len(speeds), sum(evaluations) / len(evaluations))
        return None

    def seconds(self, task: Task, agent_steps: int | None = None) -> float | None:
        """Estimate what a task still takes, from `agent_steps` on; None where nothing was measured."""
        if task.state == "finished":
            return 0.0
        pace = self.of(task.job.cfg)
        done = task.agent_steps if agent_steps is None else agent_steps
        return pace and (task.budget - done) / pace.agent_steps_per_s + pace.evaluation_s


def _keys(cfg: Any) -> list[tuple[str, ...]]:
    run = cfg["run"]  # of an old run it may lack what was not there yet
    device, *_ = run.get("device", "cpu").split(":")
    how = device, *(key for key in ("compile", "cuda_graph") if run.get(key))
    return [
        ("run", run_identity(cfg), *how), ("agent", agent_identity(cfg), *how), ("pace", pace_identity(cfg), *how),
    ]  # fmt: skip


def _evaluation_s(run: RunResult) -> float:
    """Measure how long the final games took, by the files' times; 0 where that cannot be told."""
    before, after = run.directory / METRICS, run.directory / EVALUATION
    if run.evaluation is None or not before.is_file():
        return 0.0
    return max(0.0, after.stat().st_mtime - before.stat().st_mtime)


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Return when the last task ends if each worker takes the next one as soon as it is free."""
    free = [0.0] * workers
    for duration in seconds:
        first = min(range(workers), key=free.__getitem__)
        free[first] += duration
    return max(free)
