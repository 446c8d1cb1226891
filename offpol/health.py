"""How off-policy the learning data is: the numbers every run logs by default."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from offpol.types import TraceInputs, TraceTargets

if TYPE_CHECKING:  # tensordict takes longer to import than torch
    from offpol.types import Batch

CUT = 0.05  # a weight below this ends a return for all practical purposes, a ratio below it is next to nothing
QUARTILES = 4  # of sample age, by which some numbers are logged


def health(batch: Batch, inputs: TraceInputs, targets: TraceTargets, updates: int | Tensor) -> dict[str, Tensor]:
    """Summarise one batch as 0-dim tensors, without a host sync.

    `trace_length` is the mean of `trace_lengths`: the effective horizon, how many rewards a return really used;
    `trace_length_uncut` the same of returns that only their episode's or the window's end cuts. `one_step_share` counts
    the returns that fell to one step: what follows the first reward has less weight than 0.05. `trace_end/...` are
    the shares of what ends returns (`trace_ends`), `by_age/..._1` to `_4` numbers of the freshest to the oldest quarter
    of the windows; `updates` counts the one that learns from the batch. `trace_cut_share` counts, among the rows a
    trace could have gone on to, those with c below 0.05. `policy_entropy` is that of the targets' pi. rho is pi / mu of
    the logged actions; `rho_ess` is its effective sample size as a share of the rows.
    """
    valid = batch.valid.float()
    count = valid.sum()
    log_ratio = (inputs.log_pi - inputs.log_mu).clamp(-20, 20)
    rho = log_ratio.exp() * valid
    goes_on = _goes_on(inputs).float() * valid[:, :-1]
    entropy = -(inputs.pi * inputs.pi.clamp_min(1e-12).log()).sum(-1)
    lengths, age = trace_lengths(inputs, targets), updates - 1 - batch.policy_version
    one_step = (lengths < 1 + CUT).float()
    return {
        "trace_length": lengths.mean(),
        "trace_length_uncut": 1 + goes_on.cumprod(1).sum(1).mean(),
        "one_step_share": one_step.mean(),
        "trace_cut_share": ((targets.trace[:, 1:] < CUT) * goes_on).sum() / goes_on.sum().clamp_min(1),
        **{f"trace_end/{name}": ended.float().mean() for name, ended in trace_ends(inputs, targets).items()},
        **_by_age(age[:, 0].float(), lengths, one_step, rho, valid),
        "rho_clipped_share": ((rho > 1) * valid).sum() / count,
        "rho_mean": rho.sum() / count,
        "rho_ess": rho.sum().square() / (rho.square().sum() * count).clamp_min(1e-12),
        "log_mu_minus_log_pi": -(log_ratio * valid).sum() / count,
        "sample_age_updates": (age * valid).sum() / count,
        "policy_entropy": entropy.mean(),
        "replay_weight_mean": batch.replay_weight.mean(),
        "value_mean": inputs.v.mean(),
        "returns_mean": (targets.returns * valid).sum() / count,
        "advantage_abs_mean": (targets.advantage.abs() * valid).sum() / count,
        "reward_mean": (batch.reward * valid).sum() / count,
        "trained_share": torch.as_tensor(count / valid.numel()),
    }


def trace_lengths(inputs: TraceInputs, targets: TraceTargets) -> Tensor:
    """Return how many rewards each window's first return really used [B]: 1 is one step, the window's n all of it.

    That is 1 + sum over k of min(1, w_k) with w_k = c_{t+1} .. c_{t+k} from the window's first row t: w_k is the weight
    by which the k-th later td error enters the return. The whole product is bounded, not each c: unclipped ratios and
    `rbis`, whose c may exceed 1 after a small one, count with what they carry, and none counts more than once. (The
    last factor of `vtrace` and `puffer` is rho, not c = lambda rho: where lambda < 1 they are short by one lambda.)
    """
    return 1 + _weights(inputs, targets).sum(1)


def trace_ends(inputs: TraceInputs, targets: TraceTargets) -> dict[str, Tensor]:
    """Tell what ends each window's first return: by name which windows [B] (bool), one name a window.

    A return ends where its weight falls below 0.05 for good. `episode`: the episode is over there, or gamma is 0.
    `window`: nothing ended it. Else it is the action of that row. Where the operator gave it less than the most that it
    gives any, and pi takes it less often than mu did, or next to never, the logged mu tells why. Above 1/A the behavior
    preferred the action then, and pi does not now: `policy_change`. At 1/A or below the action was explored:
    `exploration`. For epsilon-greedy behavior this is exact, whatever epsilon was: a greedy action has
    (1 - epsilon) / ties + epsilon / A, which is above 1/A unless all actions tie, any other epsilon / A. Where actions
    are sampled, one that the behavior takes rarely counts as explored. `faded`: the operator ends returns by itself
    (one_step, lambda).
    """
    weights = _weights(inputs, targets)
    windows, later = weights.shape
    reached = (weights.flip(1).cummax(1).values.flip(1) >= CUT).sum(1) if later else weights.new_zeros(windows)
    whole = reached == later
    row = reached.long().clamp(max=max(later - 1, 0)).unsqueeze(1)

    def there(values: Tensor) -> Tensor:
        """Pick the values [B, n] of the row that a return did not get past."""
        return values[:, 1:].gather(1, row).squeeze(1) if later else values[:, 0]

    follows = torch.nn.functional.pad(_goes_on(inputs), (1, 0))
    goes_on, most = there(follows), (targets.trace * follows).max().clamp(max=1.0)
    c, log_ratio, log_mu = there(targets.trace), there(inputs.log_pi - inputs.log_mu), there(inputs.log_mu)
    refused = (c < 0.999 * most) & ((log_ratio < 0) | (c < CUT))
    preferred = log_mu > 1e-5 - math.log(inputs.pi.shape[-1])
    cut = ~whole & goes_on
    return {
        "exploration": cut & refused & ~preferred, "policy_change": cut & refused & preferred,
        "faded": cut & ~refused, "episode": ~whole & ~goes_on, "window": whole,
    }  # fmt: skip


def _goes_on(inputs: TraceInputs) -> Tensor:
    """Tell which of the rows 1 .. n-1 follow the row before in the same episode [B, n-1] (bool)."""
    # Of two conditions joined by `&`, padded as they are above, Inductor (torch 2.13) makes C++ that does not compile.
    return inputs.valid_next[:, :-1] * inputs.discount[:, :-1] > 0


def _weights(inputs: TraceInputs, targets: TraceTargets) -> Tensor:
    """Return min(1, c_{t+1} .. c_{t+k}) [B, n-1] for k = 1 .. n-1, of the window's first row t."""
    # As products, huge ratios would overflow.
    return (targets.trace[:, 1:] * _goes_on(inputs)).log().cumsum(1).clamp(max=0).exp()


def _by_age(age: Tensor, lengths: Tensor, one_step: Tensor, rho: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """Summarise windows by quartile of their age [B], the freshest first; nothing for fewer windows than quartiles.

    lengths and one_step [B], rho and valid [B, n]; rho is 0 where a row is not valid.
    """
    if len(age) < QUARTILES:
        return {}
    near_zero, above_one = (rho < CUT) * valid, (rho > 1).float()
    sums = torch.stack([rho, rho.square(), near_zero, above_one, valid]).sum(2)
    each = torch.cat([torch.stack([age, lengths, one_step]), sums])
    quarters = each[:, age.argsort()].tensor_split(QUARTILES, 1)
    total, square, small, large, count = torch.stack([quarter.sum(1) for quarter in quarters], 1)[3:]
    count = count.clamp_min(1)
    means = torch.stack([quarter[:3].mean(1) for quarter in quarters], 1)
    numbers = {
        "updates": means[0], "trace_length": means[1], "one_step": means[2], "rho_near_zero": small / count,
        "rho_above_one": large / count, "rho_ess": total.square() / (square * count).clamp_min(1e-12),
    }  # fmt: skip
    return {f"by_age/{name}_{i}": n for name, each in numbers.items() for i, n in enumerate(each.unbind(), start=1)}
