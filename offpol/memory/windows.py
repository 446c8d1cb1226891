"""Reading windows out of a ring."""

from typing import Any

import numpy as np
import torch
from tensordict import TensorDict

from offpol.memory.kernels_numpy import Float32s, Ints
from offpol.memory.ring import Ring
from offpol.types import Batch


def gather(ring: Ring, starts: Ints, probability: Float32s, replay_weight: Float32s) -> Batch:
    """Copy the windows that start at drawable slots [B] into a new batch; probability and weight [B] go with it.

    Memory holds observations time-major, the stack last: `obs.transpose(0, 1).flatten(0, 1)` is a view whose first
    p B rows are the windows' first p positions, and stacked images are in torch's channels_last order, which a
    convolution wants. Reordering costs far more than gathering so. The batch shares no memory with the ring or with
    other batches.
    """
    frames, whole, real, flags, generation = ring.kernels.ring_windows(
        ring.counts, ring.rows_per_stream, ring.spec.stack, ring.window, starts, *ring.columns
    )
    arrays = {
        "obs": _observations(ring, frames), "action": whole[0], "policy_version": whole[1], "reward": real[0],
        "behavior_log_prob": real[1], "terminated": flags[0], "truncated": flags[1], "valid": flags[2],
        "valid_next": flags[3], "index": starts, "generation": generation, "probability": probability,
        "replay_weight": replay_weight,
    }  # fmt: skip
    fields: dict[Any, Any] = {name: torch.from_numpy(array) for name, array in arrays.items()}
    # `Batch(**fields)` would check each field again; that takes a tenth of the time of a whole sample.
    return Batch.from_tensordict(TensorDict._new_unsafe(fields, torch.Size(starts.shape), nested=False))


def _observations(ring: Ring, frames: Ints) -> np.ndarray:
    """Build observations [B, n+1, *obs_shape] from slots of frames [n+1, B, stack], -1 for a frame of zeros."""
    shape, stack = ring.spec.frame_shape, ring.spec.stack
    ring.storage.will_read(frames)
    if stack > 1 and len(shape) == 2:
        pixels = np.empty((*frames.shape[:2], shape[0] * shape[1], stack), ring.frames.dtype)
        ring.kernels.interleave(ring.frames.reshape(ring.size, -1), frames, pixels)
        return pixels.reshape(*frames.shape[:2], *shape, stack).transpose(1, 0, 4, 2, 3)
    if stack == 1:
        frames = frames[:, :, 0]
    obs = np.take(ring.frames, frames, axis=0, mode="clip")  # clip: -1 is a frame that is not shown
    obs[frames < 0] = 0
    return obs.swapaxes(0, 1)
