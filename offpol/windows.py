"""Reading windows out of a ring."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from offpol.kernels_numpy import Ints
from offpol.ring import Ring
from offpol.types import Batch

_PER_TRANSITION = ("action", "reward", "terminated", "truncated", "valid", "behavior_log_prob", "policy_version")


def gather(ring: Ring, starts: Ints, probability: NDArray, replay_weight: NDArray) -> Batch:
    """Copy the windows that start at drawable slots [B] into a new batch.

    Memory holds observations time-major, the stack last: `obs.transpose(0, 1).flatten(0, 1)` is a view whose first
    p B rows are the windows' first p positions, and stacked images are in torch's channels_last order, which a
    convolution wants. Reordering costs far more than gathering so. The batch shares no memory with the ring or with
    other batches.
    """
    slots, frames, generation = ring.kernels.ring_windows(
        ring.counts, ring.fields["history"], ring.rows_per_stream, ring.spec.stack, ring.window, starts
    )
    rows = ring.records.take(slots)
    steps = rows[:, :-1]
    arrays = {name: steps[name] for name in _PER_TRANSITION} | {
        "valid_next": rows[:, 1:]["valid"], "index": starts, "generation": generation,
        "probability": probability.astype(np.float32), "replay_weight": replay_weight.astype(np.float32),
    }  # fmt: skip
    fields: dict[Any, Any] = {name: torch.from_numpy(array) for name, array in arrays.items()}
    fields["obs"] = _observations(ring, frames)
    # `Batch(**fields)` would check each field again; that takes a tenth of the time of a whole sample.
    return Batch.from_tensordict(TensorDict._new_unsafe(fields, batch_size=torch.Size(starts.shape)))


def _observations(ring: Ring, frames: Ints) -> Tensor:
    """Build observations [B, n+1, *obs_shape] from slots of frames [n+1, B, stack], -1 for a frame of zeros."""
    shape, stack = ring.spec.frame_shape, ring.spec.stack
    if stack > 1 and len(shape) == 2:
        pixels = np.empty((*frames.shape[:2], shape[0] * shape[1], stack), ring.frames.dtype)
        ring.kernels.interleave(ring.frames.reshape(ring.size, -1), frames, pixels)
        return torch.from_numpy(pixels).view(*frames.shape[:2], *shape, stack).permute(1, 0, 4, 2, 3)
    if stack == 1:
        frames = frames[:, :, 0]
    obs = np.take(ring.frames, frames, axis=0, mode="clip")  # clip: -1 is a frame that is not shown
    obs[frames < 0] = 0
    return torch.from_numpy(obs).transpose(0, 1)
