"""How off-policy the learning data is: the numbers every run logs by default."""

from __future__ import annotations

import torch
from torch import Tensor

from offpol.types import Batch, TraceInputs, TraceTargets

CUT = 0.05  # a trace coefficient below this ends a return for all practical purposes


def health(batch: Batch, inputs: TraceInputs, targets: TraceTargets, updates: int) -> dict[str, Tensor]:
    """Summarise one batch as 0-dim tensors, without a host sync.

    `trace_length` is 1 + sum over k of min(1, w_k) with w_k = c_{t+1} .. c_{t+k} from each window's first row t: w_k is
    the weight by which the k-th later td error enters the return, so this is how many rewards it really used, the
    first included; 1 is one step, the window's n all of it. The whole product is bounded, not each c: unclipped ratios
    and `rbis`, whose c may exceed 1 after a small one, count with what they carry, and none counts more than once. (The
    last factor of `vtrace` and `puffer` is rho, not c = lambda rho: where lambda < 1 they are short by one lambda.)
    `trace_cut_share` counts, among the rows a trace could have gone on to, those with c below 0.05. rho is pi / mu of
    the logged actions; `rho_ess` is its effective sample size as a share of the rows.
    """
    valid = batch.valid.float()
    count = valid.sum()
    log_ratio = (inputs.log_pi - inputs.log_mu).clamp(-20, 20)
    rho = log_ratio.exp() * valid
    goes_on = (inputs.valid_next[:, :-1] & (inputs.discount[:, :-1] > 0)).float()
    log_reach = (targets.trace[:, 1:] * goes_on).log().cumsum(1)  # as products, huge ratios would overflow
    entropy = -(inputs.pi * inputs.pi.clamp_min(1e-12).log()).sum(-1)
    return {
        "trace_length": 1 + log_reach.clamp(max=0).exp().sum(1).mean(),
        "trace_cut_share": ((targets.trace[:, 1:] < CUT) * goes_on).sum() / goes_on.sum().clamp_min(1),
        "rho_clipped_share": ((rho > 1) * valid).sum() / count,
        "rho_mean": rho.sum() / count,
        "rho_ess": rho.sum().square() / (rho.square().sum() * count).clamp_min(1e-12),
        "log_mu_minus_log_pi": -(log_ratio * valid).sum() / count,
        "sample_age_updates": ((updates - batch.policy_version) * valid).sum() / count,
        "policy_entropy": entropy.mean(),
        "replay_weight_mean": batch.replay_weight.mean(),
        "value_mean": inputs.v.mean(),
        "returns_mean": (targets.returns * valid).sum() / count,
        "advantage_abs_mean": (targets.advantage.abs() * valid).sum() / count,
        "reward_mean": (batch.reward * valid).sum() / count,
        "trained_share": torch.as_tensor(count / valid.numel()),
    }
