"""A ring whose rows lie on a torch device, so that windows are read where they are learned from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from offpol.memory.kernels_numpy import Bools, Ints
from offpol.memory.ring import RECORD, Ring
from offpol.memory.storage import InMemory
from offpol.transfer import upload
from offpol.types import Batch, EnvSpec, Rows

# The bytes of a record by kind: numbers, floats, flags, history.
_COLUMNS = ((torch.int64, 0, 16), (torch.float32, 16, 24), (torch.bool, 24, 27), (torch.uint8, 27, 28))
_CHUNK = 4096  # rows that are copied at once when all of them are


class DeviceFrames:
    """Frames [N, ...] on a device, with as much of a numpy array's ways as `Ring` and `segments` use.

    `tensor` [N + 1, ...] ends with a frame of zeros, for stacks that reach back before their episode.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, device: torch.device) -> None:
        self.shape, self.dtype = shape, dtype
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        try:
            self.tensor = torch.empty((shape[0] + 1, *shape[1:]), dtype=kind, device=device)
        except RuntimeError as error:  # torch has no other word for it
            size = math.prod(shape) * dtype.itemsize / 1e9
            raise MemoryError(f"{size:,.1f} GB of frames on {device}") from error
        self.tensor[-1] = 0

    def __setitem__(self, slots: Ints, frames: np.ndarray) -> None:
        for start in range(0, len(slots), _CHUNK):
            part = slice(start, start + _CHUNK)
            index = upload(slots[part], self.tensor.device)
            self.tensor[index] = upload(np.ascontiguousarray(frames[part]), self.tensor.device)

    def take(self, slots: Ints, axis: int = 0, **_: object) -> np.ndarray:
        """Copy frames [K, ...] to the host."""
        assert axis == 0, "frames lie along the first axis"
        frames = np.empty((len(slots), *self.shape[1:]), self.dtype)
        for start in range(0, len(slots), _CHUNK):
            part = slice(start, start + _CHUNK)
            frames[part] = self.tensor[upload(slots[part], self.tensor.device)].numpy(force=True)
        return frames


class DeviceMemory(InMemory):
    """Frames in the memory of a device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        return DeviceFrames(shape, dtype, self.device)


class DeviceRing(Ring):
    """A `Ring` with its frames on a device, and there a copy of what drawing needs to know of the rows.

    What can be drawn is decided on the host, from 2 of a row's 32 bytes, as rows arrive there; the device is told.
    So nothing ever has to be read back.

    Attributes:
        generations: int64 [size] on the device, how often a slot was written; 0 where no window can be drawn.
    """

    def __init__(self, capacity: int, *, spec: EnvSpec, window: int, device: torch.device) -> None:
        self.device = device
        super().__init__(capacity, spec=spec, window=window, storage=DeviceMemory(device))
        self._columns = [
            torch.zeros(self.size, (stop - start) // dtype.itemsize, dtype=dtype, device=device)
            for dtype, start, stop in _COLUMNS
        ]
        self.generations = torch.zeros(self.size, dtype=torch.int64, device=device)

    def add(self, rows: Rows, first_stream: int = 0) -> tuple[Ints, Bools]:
        """Copy one row to each of the streams first_stream .. first_stream + E - 1; as `Ring.add`."""
        changed, drawable = super().add(rows, first_stream)
        self._copy(self.newest(np.arange(first_stream, first_stream + len(rows.valid))))
        return changed, drawable

    def cut(self, stream: int) -> None:
        """Make the newest row of a stream a bootstrap row; as `Ring.cut`."""
        super().cut(stream)
        if self.counts[stream]:
            self._copy(self.newest(np.array([stream])))

    def load_drawable(self) -> None:
        """Copy everything but the frames to the device, after rows were loaded."""
        slots = np.arange(self.size)
        self._copy(slots)
        self.generations.copy_(upload(np.where(self.drawable(slots), self.generation(slots), 0), self.device))

    def _copy(self, slots: Ints) -> None:
        """Copy the records of slots to the device, whole, and take them apart there."""
        index = upload(slots, self.device)
        packed = upload(self.records[slots].view(np.uint8).reshape(len(slots), RECORD.itemsize), self.device)
        for column, (dtype, start, stop) in zip(self._columns, _COLUMNS, strict=True):
            column[index] = packed[:, start:stop].view(dtype)

    # ------------------------------------------------------------------------- reading, on the device

    def gather(self, starts: Tensor, probability: Tensor, replay_weight: Tensor) -> Batch:
        """Copy the windows that start at drawable slots [B] into a new batch, laid out as `windows.py` does."""
        rows = self.rows_per_stream
        base = (starts - starts % rows).unsqueeze(1)
        row = starts.unsqueeze(1) - base + torch.arange(self.window + 1, device=self.device)
        slots = base + row % rows  # [B, n+1]
        numbers, floats, flags, history = (column[slots] for column in self._columns)
        action, policy_version = numbers[:, :-1].unbind(2)
        reward, behavior_log_prob = floats[:, :-1].unbind(2)
        terminated, truncated, valid = flags[:, :-1].unbind(2)
        fields: dict[Any, Any] = {
            "obs": self._observations(base, row, history.squeeze(2)), "action": action, "reward": reward,
            "terminated": terminated, "truncated": truncated, "valid": valid, "valid_next": flags[:, 1:, 2],
            "behavior_log_prob": behavior_log_prob, "policy_version": policy_version, "index": starts,
            "generation": self.generations[starts], "probability": probability.float(),
            "replay_weight": replay_weight.float(),
        }  # fmt: skip
        return Batch.from_tensordict(TensorDict._new_unsafe(fields, batch_size=starts.shape))

    def _observations(self, base: Tensor, row: Tensor, history: Tensor) -> Tensor:
        """Build observations [B, n+1, *obs_shape] of rows [B, n+1] that show `history` earlier frames."""
        stack = self.spec.stack
        frames: Tensor = self.frames.tensor  # type: ignore[attr-defined]
        back = torch.arange(stack - 1, -1, -1, device=self.device)
        index = base.unsqueeze(2) + (row.unsqueeze(2) - back) % self.rows_per_stream
        index = torch.where(back <= history.unsqueeze(2), index, self.size)  # the frame of zeros
        obs = frames[index.transpose(0, 1).contiguous()]  # [n+1, B, stack, ...]: memory follows the index
        if stack == 1:
            obs = obs.squeeze(2)
        elif len(self.spec.frame_shape) == 2:
            obs = obs.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
        return obs.transpose(0, 1)
