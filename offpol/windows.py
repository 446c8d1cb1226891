"""Reading windows out of a ring."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offpol.kernels_numpy import Ints
from offpol.ring import Ring
from offpol.types import Batch

_PER_TRANSITION = ("action", "reward", "terminated", "truncated", "behavior_log_prob", "policy_version")


def gather(ring: Ring, starts: Ints, probability: NDArray, replay_weight: NDArray) -> Batch:
    """Copy the windows that start at drawable slots [B] into a new batch.

    Stacked images come with the shape [B, n+1, stack, height, width] but with the stack last in memory (torch's
    channels_last, once B and n+1 are flattened): a convolution wants floats in that order, and reordering costs
    far more than gathering so. The batch shares no memory with the ring or with other batches.
    """
    slots, frames = ring.kernels.ring_windows(
        ring.flat["history"], ring.rows_per_stream, ring.spec.stack, ring.window, starts
    )
    steps = np.ascontiguousarray(slots[:, :-1])
    valid = _take(ring.flat["valid"], slots)
    return Batch(
        obs=_observations(ring, frames),
        valid=valid[:, :-1], valid_next=valid[:, 1:],
        **{name: _take(ring.flat[name], steps) for name in _PER_TRANSITION},
        index=torch.from_numpy(starts), generation=torch.from_numpy(ring.generation(starts)),
        probability=torch.from_numpy(probability.astype(np.float32)),
        replay_weight=torch.from_numpy(replay_weight.astype(np.float32)),
        batch_size=starts.shape,
    )  # fmt: skip


def _take(field: NDArray, slots: Ints) -> Tensor:
    return torch.from_numpy(np.take(field, slots, axis=0, mode="clip"))  # clip: no check, slots are in range


def _observations(ring: Ring, frames: Ints) -> Tensor:
    """Build observations [B, n+1, *obs_shape] from slots of frames [B, n+1, stack], -1 for a frame of zeros."""
    shape, stack, stored = ring.spec.frame_shape, ring.spec.stack, ring.flat["obs"]
    if stack == 1:
        return _take(stored, frames[:, :, 0])
    if len(shape) != 2:  # no image: no convolution
        obs = _take(stored, frames)
        obs[torch.from_numpy(frames) < 0] = 0
        return obs
    pixels = np.empty((frames.shape[0] * frames.shape[1], shape[0] * shape[1], stack), stored.dtype)
    ring.kernels.interleave(stored.reshape(ring.size, -1), frames.reshape(-1, stack), pixels)
    return torch.from_numpy(pixels).view(*frames.shape[:2], *shape, stack).permute(0, 1, 4, 2, 3)
