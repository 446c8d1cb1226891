"""What a run writes while it goes: metrics.jsonl, episodes.csv and TensorBoard events."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from offpol.errors import ConfigError
from offpol.record.run_directory import EPISODES, METRICS
from offpol.types import StateDict

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.tensorboard import SummaryWriter

EPISODE_FIELDS = ("agent_steps", "frames", "stream", "episode_return", "length_agent_steps")
MACHINE = "machine/"  # the prefix of metrics that tell of the machine: no two runs agree on them


class Logger:
    """Appends rows to a run's files; knows how long they were at a checkpoint.

    Only one process at a time may log into a directory: see `run_directory.locked`. On resuming, rows from after the
    checkpoint are cut off, so that the files end up as if nothing had happened.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.metrics_file = (directory / METRICS).open("ab")
        self.episodes_file = (directory / EPISODES).open("ab")
        if self.episodes_file.tell() == 0:
            self.episodes_file.write((",".join(EPISODE_FIELDS) + "\n").encode())
        self._tensorboard: SummaryWriter | None = None
        self._purge_step: int | None = None

    def metrics(self, agent_steps: int, row: Mapping[str, float]) -> None:
        """Write one row of numbers; what is not finite becomes null, as JSON has no word for it."""
        finite = {name: number if math.isfinite(number) else None for name, number in row.items()}
        self.metrics_file.write((json.dumps({"agent_steps": agent_steps, **finite}) + "\n").encode())
        self.metrics_file.flush()
        self.episodes_file.flush()
        for name, number in row.items():
            self.tensorboard.add_scalar(name, number, agent_steps)

    def histogram(self, agent_steps: int, name: str, values: Tensor) -> None:
        """Write how numbers [N] are distributed, for TensorBoard."""
        self.tensorboard.add_histogram(name, values, agent_steps)

    def episode(self, *row: float) -> None:
        """Write one finished game, in the order of EPISODE_FIELDS; the return is the raw score."""
        self.episodes_file.write((",".join(map(repr, row)) + "\n").encode())

    @property
    def tensorboard(self) -> SummaryWriter:
        """The event writer, made when first used: importing it takes a while."""
        if self._tensorboard is None:
            from torch.utils.tensorboard import SummaryWriter

            self._tensorboard = SummaryWriter(str(self.directory / "tensorboard"), purge_step=self._purge_step)
        return self._tensorboard

    def state_dict(self) -> StateDict:
        """Put the files safely on disk and return their lengths."""
        files = {"metrics_bytes": self.metrics_file, "episodes_bytes": self.episodes_file}
        return {name: _synced_length(file) for name, file in files.items()}

    def load_state_dict(self, state: StateDict, agent_steps: int) -> None:
        """Cut the files back to where `state_dict` found them, at `agent_steps`."""
        _cut(self.metrics_file, state["metrics_bytes"])
        _cut(self.episodes_file, state["episodes_bytes"])
        self._purge_step = agent_steps + 1

    def close(self) -> None:
        """Flush and close everything, once: what cannot be flushed, as on a full disk, raises no second time."""
        with contextlib.ExitStack() as closing:
            for each in (self.metrics_file, self.episodes_file, self._tensorboard):
                if each is not None:
                    closing.callback(each.close)
            self._tensorboard = None


def _synced_length(file: BinaryIO) -> int:
    file.flush()
    os.fsync(file.fileno())
    return file.tell()


def _cut(file: BinaryIO, length: int) -> None:
    """Shorten a file that was opened for appending."""
    file.flush()
    file.seek(0, os.SEEK_END)
    if file.tell() < length:
        raise ConfigError(f"{file.name} is shorter than it was at the checkpoint: put back what was removed from it.")
    file.truncate(length)
    file.seek(0, os.SEEK_END)
