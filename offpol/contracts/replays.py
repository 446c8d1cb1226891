"""Whether a replay delivers batches as they are laid out."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from offpol.contracts.answers import said
from offpol.errors import ConfigError
from offpol.record.checkpoint_files import require_plain
from offpol.types import Replay

if TYPE_CHECKING:  # tensordict takes longer to import than torch
    from offpol.types import Batch


def check_state(replay: Replay) -> None:
    """Raise ConfigError where no checkpoint could hold a replay; one without a state while it is empty passes."""
    name = f"{type(replay).__name__}.state_dict"
    if "since" not in inspect.signature(replay.state_dict).parameters:
        raise ConfigError(f"replay: {name} does not take `since` (offpol.types.Replay).")
    try:
        state = replay.state_dict(since=None)
    except Exception:  # of a part of somebody's own, that may well say so once it holds rows
        return
    try:
        require_plain(state, f"{name}()")
    except TypeError as error:
        raise ConfigError(f"replay: {error}.") from error


def check_batch(batch: Batch, replay: Replay, batch_size: int, window: int) -> None:
    """Look at the first windows that a replay delivered; raise ConfigError where they are not laid out as `Batch` says.

    No replay can be asked before rows are in it.
    """
    whole, real, flag = torch.int64, torch.float32, torch.bool
    of_rows = {
        "action": whole, "reward": real, "terminated": flag, "truncated": flag, "valid": flag, "valid_next": flag,
        "behavior_log_prob": real, "policy_version": whole,
    }  # fmt: skip
    of_windows = {"index": whole, "generation": whole, "probability": real, "replay_weight": real}
    shapes = dict.fromkeys(of_rows, (batch_size, window)) | dict.fromkeys(of_windows, (batch_size,))
    for name, dtype in (of_rows | of_windows).items():
        values = getattr(batch, name, None)
        if not isinstance(values, Tensor) or values.shape != shapes[name] or values.dtype != dtype:
            raise ConfigError(
                f"{type(replay).__name__}.sample gives {name} as {said(values)}, but it must be {shapes[name]} of "
                f"{dtype} (offpol.types.Batch)."
            )
    if batch.obs.shape[:2] != (batch_size, window + 1):
        raise ConfigError(
            f"{type(replay).__name__}.sample gives obs as {said(batch.obs)}, but it must begin by "
            f"{(batch_size, window + 1)}: the row after a window's last is bootstrapped from."
        )
