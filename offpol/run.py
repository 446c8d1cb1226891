"""Run: how far a run is, and everything that has to happen on the way: logs, progress, checkpoints, signals."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from offpol.clock import Clock, Meter
from offpol.guard import Guard
from offpol.progress import Progress
from offpol.rate_limiter import RateLimiter
from offpol.record.checkpoint import Checkpoints
from offpol.record.logger import MACHINE, Logger
from offpol.record.pending import Pending
from offpol.record.run_directory import CHECKPOINTS
from offpol.record.run_summary import learning_curve
from offpol.seeding import global_state, load_global_state
from offpol.types import Rows, StateDict

if TYPE_CHECKING:
    from offpol.actor import Episode

DRAW_EVERY_S = 10.0  # the learning curve, at most: a picture costs as much as tens of updates of a small network
RECENT_EPISODES = 100  # whose mean stands for "the score now"
POLICY_LAG = "policy_lag_updates"  # updates that the policy which acted was behind, when its row arrived


@dataclass(frozen=True)
class RunConfig:
    """How long, how fast, how often; see conf/config.yaml. Raises ValueError for what makes no sense."""

    agent_steps: int
    num_envs: int
    replay_ratio: float
    learning_starts_agent_steps: int
    log_every_agent_steps: int
    measure_every_updates: int
    checkpoint_every_agent_steps: int
    keep_checkpoints: int
    eval_episodes: int
    eval_num_envs: int
    eval_epsilon: float | None
    eval_over: Literal["q", "policy"] | None
    torch_threads: int
    device: str
    actor_device: str | None
    compile: bool
    cuda_graph: bool
    autocast: Literal["none", "bfloat16"]

    def __post_init__(self) -> None:
        for name in (
            "agent_steps", "num_envs", "log_every_agent_steps", "measure_every_updates", "checkpoint_every_agent_steps",
            "keep_checkpoints", "eval_num_envs", "torch_threads",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, but is {getattr(self, name)}.")
        if self.torch_threads > 1024:
            raise ValueError(f"torch_threads must be at most 1024, but is {self.torch_threads}: one a core is plenty.")
        if self.eval_episodes < 0:
            raise ValueError(f"eval_episodes must not be negative, but is {self.eval_episodes}; 0 skips it.")
        if self.eval_epsilon is not None and not 0 <= self.eval_epsilon <= 1:
            raise ValueError(f"eval_epsilon must be between 0 and 1, but is {self.eval_epsilon}.")
        RateLimiter(self.replay_ratio, self.learning_starts_agent_steps)


class Run:
    """What a topology talks to. Used in a `with`: inside it, Ctrl-C and SIGTERM end the run with a checkpoint.

    Args:
        directory: of the run, existing.
        config: see RunConfig.
        title: of the learning curve.
        frames_per_agent_step: of the emulator, for reports.
        levels: scores to compare with in the learning curve, by name.

    `gauges` are numbers read whenever a row is logged, by name: they cost nothing in between.
    """

    def __init__(
        self, directory: Path, config: RunConfig, *, title: str, frames_per_agent_step: int, levels: Mapping[str, float]
    ) -> None:
        self.directory, self.config, self.title, self.levels = directory, config, title, levels
        self.frames_per_agent_step = frames_per_agent_step
        self.limiter = RateLimiter(config.replay_ratio, config.learning_starts_agent_steps)
        self.agent_steps = self.updates = self.episodes = self.rows_lost = 0
        self.recent_returns: deque[float] = deque(maxlen=RECENT_EPISODES)
        self.recent_lengths: deque[int] = deque(maxlen=RECENT_EPISODES)
        self.gauges: dict[str, Callable[[], float]] = {}
        self.guard = Guard()
        self.meter = Meter()
        self.checkpoints = Checkpoints(directory / CHECKPOINTS, config.keep_checkpoints)
        self.saved_at: int | None = None  # agent steps at the newest checkpoint
        self.resumed: StateDict = {}  # where the run goes on: what the checkpoint held
        self.signal: int | None = None  # the one that asked the run to end
        self.interrupted = False
        self.windows_checked = False  # those that the replay delivers, once in a process
        self._pending = Pending()
        self._seen = 0  # agent steps at the last after_step
        self._draw_after = time.monotonic() + DRAW_EVERY_S
        self._handlers: dict[int, object] = {}
        self.logger = Logger(directory)

    def __enter__(self) -> Run:
        self.progress = Progress(
            self.config.agent_steps, self.agent_steps, self.config.learning_starts_agent_steps
        )  # fmt: skip
        self._handlers = {s: signal.signal(s, self._ask_to_end) for s in (signal.SIGINT, signal.SIGTERM)}
        self.meter.start(self.agent_steps, self.updates)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self.progress.close()
        self.logger.close()

    # ------------------------------------------------------------------------- what topologies call

    @property
    def done(self) -> bool:
        """Whether the last agent step was taken, or the run was asked to end and has saved itself."""
        return self.agent_steps >= self.config.agent_steps or self.interrupted

    def updates_due(self, updates: int) -> int:
        """Return how many updates the replay ratio asks for now, when `updates` were done."""
        return self.limiter.updates_due(self.agent_steps, updates)

    def timed(self, name: str) -> Clock:
        """Count the time inside a `with` as spent on `name`; one thread per name."""
        return self.meter.clocks[name]

    def count(self, rows: Rows, episodes: Sequence[Episode]) -> None:
        """Count one row per stream, and log the games that ended with it."""
        self.agent_steps += int(rows.valid.sum())
        self.log_values(POLICY_LAG, torch.from_numpy(self.updates - rows.policy_version[rows.valid]))
        for episode in episodes:
            self.episodes += 1
            self.recent_returns.append(episode.episode_return)
            self.recent_lengths.append(episode.length_agent_steps)
            frames = self.agent_steps * self.frames_per_agent_step
            self.logger.episode(
                self.agent_steps, frames, episode.stream, episode.episode_return, episode.length_agent_steps
            )

    def log_update(self, metrics: Mapping[str, Tensor]) -> None:
        """Count one update and keep its metrics (0-dim, on any device); the next row holds their means.

        Nothing is copied to the host before that row is written.
        """
        self.updates += 1
        self._pending.add(metrics)

    def log_values(self, name: str, values: Tensor) -> None:
        """Keep numbers [N] for the next row's histogram."""
        self._pending.add_values(name, values)

    def lose(self, rows: int, why: str) -> None:
        """Count rows that were lost with what acted, and say so."""
        self.rows_lost += rows
        self.progress.say(f"offpol: {rows} rows are lost. {why}")

    def after_step(self, save: Callable[[], StateDict]) -> None:
        """Do what the cadences ask for. `save` returns the state of everything but this run."""
        self.progress.update(self.agent_steps)
        before, self._seen = self._seen, self.agent_steps
        over, asked = self.agent_steps >= self.config.agent_steps, self.signal is not None  # which may come any moment
        if over or self._seen // self.config.log_every_agent_steps > before // self.config.log_every_agent_steps:
            with self.timed("log"):
                self._log()
        every = self.config.checkpoint_every_agent_steps
        if over or asked or self._seen // every > before // every:
            with self.timed("checkpoint"):
                self.save(save)
                if over or asked or time.monotonic() > self._draw_after:
                    learning_curve(self.directory, self.title, self.levels)
                    self._draw_after = time.monotonic() + DRAW_EVERY_S
        self.interrupted = asked

    # --------------------------------------------------------------------------------------- details

    def save(self, save: Callable[[], StateDict]) -> None:
        """Write a checkpoint; raise NotFinite for a state that is not worth it."""
        self.guard.check()
        state = {**save(), "run": self.state_dict()}
        about = {"agent_steps": self.agent_steps, "updates": self.updates}
        self.checkpoints.save(state, about)
        self.saved_at = self.agent_steps

    def _log(self) -> None:
        # First, so that what this row costs is the next row's: shares could exceed 1 otherwise.
        machine = self.meter.row(self.agent_steps, self.updates)
        self.guard.check()
        row: dict[str, float] = {
            "updates": self.updates,
            "frames": self.agent_steps * self.frames_per_agent_step,
            "episodes": self.episodes,
            "rows_lost": self.rows_lost,
        }
        if self.recent_returns:
            row["episode_return"] = sum(self.recent_returns) / len(self.recent_returns)
            row["episode_length_agent_steps"] = sum(self.recent_lengths) / len(self.recent_lengths)
        learning = self.agent_steps - self.config.learning_starts_agent_steps
        if learning > 0:
            row["replay_ratio"] = self.updates / learning
        row |= {name: float(read()) for name, read in self.gauges.items()}
        row |= self._pending.take_means() | self._histograms()
        self.logger.metrics(self.agent_steps, row | {MACHINE + name: number for name, number in machine.items()})
        shown = {"return": "episode_return", "epsilon": "epsilon", "trace length": "trace_length"}
        self.progress.show({label: row[name] for label, name in shown.items() if name in row})

    def _histograms(self) -> dict[str, float]:
        """Write how what was kept is distributed; return mean and maximum of the policy lag."""
        values = self._pending.take_values()
        for name, numbers in values.items():
            self.logger.histogram(self.agent_steps, name, numbers)
        lag = values.get(POLICY_LAG)
        return {} if lag is None else {POLICY_LAG: float(lag.double().mean()), f"{POLICY_LAG}_max": float(lag.max())}

    def _ask_to_end(self, number: int, frame: FrameType | None) -> None:
        """First signal: end after this step. Ctrl-C after it: end at once.

        SIGTERM after it asks for nothing new: clusters send it to a bench and to its runs, to which the bench passes
        it on.
        """
        if self.signal is None:
            self.signal = number
            with contextlib.suppress(OSError):  # nobody may be left to read it, as `tee` dies of the same Ctrl-C
                os.write(2, b"\nFinishing this step and saving; Ctrl-C stops at once.\n")  # print is not reentrant
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    # ----------------------------------------------------------------------------------------- state

    def state_dict(self) -> StateDict:
        """Everything needed for the coming rows to be those of a run that was never interrupted."""
        return {
            "agent_steps": self.agent_steps,
            "updates": self.updates,
            "episodes": self.episodes,
            "wall_s": self.meter.elapsed_s,
            "recent_returns": list(self.recent_returns),
            "recent_lengths": list(self.recent_lengths),
            "rows_lost": self.rows_lost,
            "pending": self._pending.state_dict(),
            "logger": self.logger.state_dict(),
            "random": global_state(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Go on from where `state_dict` was taken."""
        self.agent_steps, self.updates = state["agent_steps"], state["updates"]
        self.episodes, self.rows_lost, self.meter.wall_s = state["episodes"], state["rows_lost"], state["wall_s"]
        self.recent_returns.extend(state["recent_returns"])
        self.recent_lengths.extend(state["recent_lengths"])
        self._pending.load_state_dict(state["pending"])
        self._seen = self.saved_at = self.agent_steps
        self.logger.load_state_dict(state["logger"], self.agent_steps)
        load_global_state(state["random"])
