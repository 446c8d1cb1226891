"""Batch: what a replay hands to the learner. Import it from `offpol.types`."""

from __future__ import annotations

from tensordict import TensorClass
from torch import Tensor


class Batch(TensorClass):
    """Windows of n transitions (rows t .. t+n of one stream), as `Replay.sample` returns them."""

    obs: Tensor  # [B, n+1, *obs_shape]
    action: Tensor  # [B, n] int64
    reward: Tensor  # [B, n] float32
    terminated: Tensor  # [B, n] bool; both flags set means terminated
    truncated: Tensor  # [B, n] bool
    valid: Tensor  # [B, n] bool, False: the row is no transition, do not train on it
    valid_next: Tensor  # [B, n] bool, row t+1 is valid, and of the same episode if row t is: a trace may go on
    behavior_log_prob: Tensor  # [B, n] float32
    policy_version: Tensor  # [B, n] int64
    index: Tensor  # [B] int64, the slot of the window's first row
    generation: Tensor  # [B] int64, how often that slot had been written
    probability: Tensor  # [B] float32, with which the window was drawn
    replay_weight: Tensor  # [B] float32, corrects the draw; 1 for uniform

    def shortened(self, window: int) -> Batch:
        """Return the first `window` transitions of each window."""
        along = {name: values[:, :window] for name, values in self.items() if values.ndim > 1}
        return self.replace(**along | {"obs": self.obs[:, : window + 1]})
