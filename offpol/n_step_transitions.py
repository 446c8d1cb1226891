"""Windows joined to n-step transitions, for agents that look at no row between a window's ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from offpol.types import Policy, Trace, TraceInputs

if TYPE_CHECKING:  # tensordict takes longer to import than torch
    from offpol.types import Batch


def joins_steps(policy: Policy, trace: Trace, train_positions: int) -> bool:
    """Tell whether nothing reads more of a window than its n-step transition."""
    return train_positions == 1 and policy.reads_rows != "all" and getattr(trace, "joins_steps", False)


def n_step(reward: Tensor, discount: Tensor, valid_next: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sum windows from their first row to the end of the window or of its episode; all [B, n].

    Return r_0 + d_0 r_1 + d_0 d_1 r_2 + ..., the product of the discounts, and the row to bootstrap from, each [B, 1].
    """
    follows = valid_next[:, :-1]
    reached = torch.nn.functional.pad((discount[:, :-1] * follows).cumprod(1), (1, 0), value=1.0)
    last = follows.long().cumprod(1).sum(1, keepdim=True)
    return (reached * reward).sum(1, keepdim=True), (reached * discount).gather(1, last), last + 1


def join_batch(batch: Batch, discount: Tensor) -> tuple[Batch, Tensor]:
    """Join the windows of a batch, given their discounts [B, n]; return the transitions and theirs [B, 1]."""
    reward, joint, row = n_step(batch.reward, discount, batch.valid_next)
    return batch.shortened(1).replace(obs=_ends(batch.obs, row), reward=reward), joint


def join_inputs(inputs: TraceInputs) -> TraceInputs:
    """Join the windows that a trace is shown."""
    reward, discount, row = n_step(inputs.reward, inputs.discount, inputs.valid_next)
    return TraceInputs.of(
        q_values=_ends(inputs.q_values, row), pi=_ends(inputs.pi, row), action=inputs.action[:, :1], reward=reward,
        discount=discount, log_mu=inputs.log_mu[:, :1], valid_next=inputs.valid_next[:, :1],
    )  # fmt: skip


def _ends(values: Tensor, row: Tensor) -> Tensor:
    """Keep the first row and `row` [B, 1] of windows [B, n+1, ...]: [B, 2, ...], time-major in memory as a replay's."""
    window = torch.arange(len(row), device=row.device)
    kept = torch.cat([window, row.squeeze(1) * len(row) + window])
    rows = values.transpose(0, 1).flatten(0, 1)
    out = torch.empty_like(rows[: len(kept)])  # its own result would not be channels_last where images are
    return torch.unflatten(torch.index_select(rows, 0, kept, out=out), 0, (2, -1)).transpose(0, 1)
