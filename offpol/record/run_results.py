"""What a run's folder says: its config, how far it came, its scores and its curve. Reads, never writes."""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from offpol.errors import ConfigError
from offpol.record import run_directory
from offpol.record.identity import Identified
from offpol.record.renamed import current

TAIL_BYTES = 65536  # in which the last row of metrics.jsonl is sought
CURVE_POINTS = 50
CURVE_WINDOW = 0.1  # of the budget: the share of training that a point of the curve averages over
MILLION_FRAMES = 1_000_000
L = TypeVar("L")
T = TypeVar("T")


@dataclass(frozen=True)
class RunResult(Identified):
    """One run's folder and the config saved in it."""

    directory: Path
    cfg: Mapping[str, Any]

    @property
    def budget(self) -> int:
        """Agent steps it was asked for."""
        return int(self.cfg["run"]["agent_steps"])

    @property
    def frames_per_agent_step(self) -> int:
        """Emulator frames that an agent step lasts; 1 where there is no emulator."""
        return int(self.cfg["env"].get("protocol", {}).get("frame_skip", 1))

    @cached_property
    def info(self) -> dict[str, Any]:
        """Where it comes from: command, commit, versions."""
        return _json(self.directory / run_directory.INFO) or {}

    @cached_property
    def evaluation(self) -> dict[str, Any] | None:
        """The games played after the last agent step; None where the run has not come so far."""
        found = _json(self.directory / run_directory.EVALUATION)
        return found if found and found["agent_steps"] >= self.budget else None

    @cached_property
    def inspected(self) -> dict[str, Any] | None:
        """What `offpol-inspect` saw last, as its inspect.json has it; None where nobody looked."""
        return _json(self.directory / run_directory.INSPECT / run_directory.INSPECTED)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        if self.cfg["run"]["eval_episodes"]:
            return self.evaluation is not None
        return self.saved_agent_steps >= self.budget

    @cached_property
    def saved_agent_steps(self) -> int:
        """Agent steps at the newest checkpoint; 0 without one. (offpol.record.checkpoint would import torch.)

        Of a published run, those it had come to: its checkpoints stayed behind.
        """
        manifests = (self.directory / run_directory.CHECKPOINTS).glob("[0-9]*[0-9]/manifest.json")
        for manifest in sorted(manifests, key=lambda path: int(path.parent.name), reverse=True):
            with contextlib.suppress(ConfigError):  # a damaged one is passed over, as when the run goes on
                return int(run_directory.read_json(manifest, "about")["about"]["agent_steps"])
        return int(self.info.get("published", {}).get("agent_steps", 0))

    @cached_property
    def last_row(self) -> dict[str, Any]:
        """The newest row of metrics; empty before the first."""
        return last_row(self.directory / run_directory.METRICS)

    @cached_property
    def episodes(self) -> np.ndarray:
        """Finished training games [games, 2]: the agent steps of the run when each ended, and its raw return."""
        path = self.directory / run_directory.EPISODES
        rows = csv.DictReader(_lines(path))
        found = _parsed(path, rows, lambda row: (float(row["agent_steps"]), float(row["episode_return"])), first=2)
        return np.array(found).reshape(-1, 2)

    def score(self, statistic: str) -> float | None:
        """Return the raw score that a statistic stands for; None where there is none (yet).

        `final_evaluation`: mean over the games played with the final policy. `training_1m_frames`: mean over the
        training games that ended within the last million frames of a finished run, as Dopamine reports.
        """
        if statistic == "final_evaluation":
            mean = self.evaluation["mean"] if self.evaluation else math.nan
            return float(mean) if math.isfinite(mean) else None
        steps = MILLION_FRAMES // self.frames_per_agent_step
        if not self.finished or self.budget < steps:
            return None
        ended, returns = self.episodes.T
        recent = returns[ended > self.budget - steps]
        return float(recent.mean()) if len(recent) else None

    @cached_property
    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Agent steps [P], and the mean return of the games that ended in a window before each.

        Where none did, the value before stands; NaN before the first game and beyond what was reached.
        """
        ended, returns = self.episodes.T
        points = np.linspace(0, self.budget, CURVE_POINTS + 1)[1:]
        sums = np.concatenate([[0.0], np.cumsum(returns)])
        last = np.searchsorted(ended, points, side="right")
        first = np.searchsorted(ended, points - CURVE_WINDOW * self.budget, side="right")
        mean = np.full(len(points), np.nan)
        for i, count in enumerate(last - first):
            if count:
                mean[i] = (sums[last[i]] - sums[first[i]]) / count
            elif i:
                mean[i] = mean[i - 1]
        mean[points > self.reached] = np.nan
        return points, mean

    @property
    def reached(self) -> int:
        """Agent steps taken so far, as far as they were logged."""
        return int(self.last_row.get("agent_steps", 0))

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """Every row of metrics."""
        path = self.directory / run_directory.METRICS
        return _parsed(path, _lines(path), _row)

    @cached_property
    def axes(self) -> dict[str, np.ndarray]:
        """The logged rows' agent steps, frames, wall-clock (minutes) and updates, each [rows]."""
        columns = {
            "agent steps": ("agent_steps", 1.0), "frames": ("frames", 1.0),
            "minutes": ("machine/wall_s", 60.0), "updates": ("updates", 1.0),
        }  # fmt: skip
        return {name: np.array([row[key] / unit for row in self.metrics]) for name, (key, unit) in columns.items()}

    def logged(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return agent steps and values [rows] of a metric, where it was logged."""
        pairs = [(row["agent_steps"], row[name]) for row in self.metrics if row.get(name) is not None]
        steps, values = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
        return steps, values

    def late(self, share: float) -> dict[str, float]:
        """Average each metric over the last `share` of the budget, as far as the run has come."""
        columns: dict[str, list[float]] = {}
        for row in self.metrics:
            if row["agent_steps"] > self.reached - share * self.budget:
                for name, value in row.items():
                    if value is not None:
                        columns.setdefault(name, []).append(value)
        return {name: float(np.mean(values)) for name, values in columns.items()}


def last_row(path: Path) -> dict[str, Any]:
    """Return the last whole row of a metrics.jsonl, without reading all of it; {} where there is none."""
    if not path.is_file():
        return (_parsed(path, _lines(path)[-1:], _row, None) or [{}])[0]
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
        whole = file.read().split(b"\n")[:-1]
    return _parsed(path, whole[-1:], _row, None)[0] if whole and whole[-1].startswith(b"{") else {}


def _row(line: str | bytes) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(line)
    row["agent_steps"] + 0  # which every row has
    return row


def _parsed(path: Path, lines: Iterable[L], parse: Callable[[L], T], first: int | None = 1) -> list[T]:
    """Parse the lines of a file; raise ConfigError for one that is damaged. `first` is the number of the first.

    None: there is but one, the file's last.
    """
    found = []
    for number, line in enumerate(lines, first or 0):
        try:
            found.append(parse(line))
        except (ValueError, KeyError, TypeError) as error:
            where = "its last line" if first is None else f"line {number}"
            raise ConfigError(
                f"{path} is damaged in {where} ({error}): put it back from a copy, take that line out, or move the "
                "run away."
            ) from error
    return found


def _lines(path: Path) -> list[str]:
    """Return the whole lines of a file that may be packed (benchmarks/publish.py) or missing."""
    if path.is_file():
        return run_directory.whole_lines(path)
    packed = path.with_name(path.name + ".gz")
    return gzip.decompress(packed.read_bytes()).decode().splitlines() if packed.is_file() else []


def find_runs(paths: Iterable[Path]) -> Iterator[RunResult]:
    """Yield every run in or below the paths, in order; a run has a config.yaml and an info.json."""
    for path in paths:
        for folder, folders, files in os.walk(path, followlinks=True):
            folders.sort()
            if run_directory.CONFIG in files and run_directory.INFO in files:
                folders.clear()
                yield read_run(Path(folder))


def read_run(directory: Path) -> RunResult:
    """Read the config of a run's folder; raise ConfigError where it is none."""
    path = directory / run_directory.CONFIG
    try:
        loaded = yaml.load(path.read_text(), Loader=_Loader)
        cfg = {key: value for key, value in loaded.items() if key not in ("defaults", "hydra")}
        run = RunResult(directory, current(cfg))
        _ = run.agent, run.game, run.seed, run.budget
    except (yaml.YAMLError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path} is not the config of a run ({type(error).__name__}): move the folder away."
        ) from error
    return run


def _json(path: Path) -> dict[str, Any] | None:
    return run_directory.read_json(path) if path.is_file() else None


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where PyYAML was built so: ten times faster
