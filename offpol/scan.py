"""The one reverse scan behind every trace operator, and the general operator written with it."""

import math

import torch
from torch import Tensor

from offpol.types import TraceInputs, TraceTargets


def reverse_scan(delta: Tensor, decay: Tensor) -> Tensor:
    """Return acc [B, n] with acc_t = delta_t + decay_t acc_{t+1} and acc_{n-1} = delta_{n-1}.

    delta [B, n]; decay [B, n-1] carries step t+1 into step t. A Python loop: windows are short, and a
    compiler unrolls it.
    """
    steps, decays = list(delta.unbind(1)), decay.unbind(1)
    for t in range(len(decays) - 1, -1, -1):
        steps[t] = torch.addcmul(steps[t], decays[t], steps[t + 1])
    return torch.stack(steps, 1)


def continuation(inputs: TraceInputs) -> Tensor:
    """Return d_t k_t [B, n-1]: the discount into row t+1, 0 where row t+1 is not of the same episode."""
    return (inputs.discount * inputs.valid_next)[:, :-1]


def ratio(inputs: TraceInputs, clip: float) -> Tensor:
    """Return min(clip, pi(a_t)/mu(a_t)) [B, n], clipped before exp so that no ratio overflows.

    An action that pi never takes (log_pi = -inf) has ratio 0. Nothing is added to mu.
    """
    largest = torch.finfo(inputs.log_mu.dtype).max
    return (inputs.log_pi - inputs.log_mu).clamp(max=math.log(min(clip, largest / 2))).exp()


def q_targets(inputs: TraceInputs, trace: Tensor, v: Tensor) -> TraceTargets:
    """Apply the general operator to action values, given the coefficients c_t.

    G_t = r_t + d_t ( v_{t+1} + k_t c_{t+1} (G_{t+1} - q_{t+1}) ), G_{n-1} = r + d v_n, with d = discount and
    k = valid_next (Munos et al. 2016, eq. 3-4). The product of traces starts at t+1: `trace` [B, n] is
    indexed by the action it belongs to, and its first column is never used. v [B, n+1]. The scan runs on
    G - q, whose td errors r_t + d_t v_{t+1} - q_t stand in the paper's sum.
    """
    td_error = torch.addcmul(inputs.reward - inputs.q, inputs.discount, v[:, 1:])
    correction = reverse_scan(td_error, continuation(inputs) * trace[:, 1:])
    returns = inputs.q + correction
    return TraceTargets(returns=returns, advantage=returns - inputs.v[:, :-1], trace=trace)


def lambda_returns(inputs: TraceInputs, lambda_: float) -> Tensor:
    """Return the uncorrected lambda-returns [B, n]: the general operator with q := v and c = lambda.

    G_t = r_t + d_t ( v_{t+1} + lambda k_t (G_{t+1} - v_{t+1}) ). lambda 1 is the n-step return to the window's
    or the episode's end. Written without the difference of two values, so that the n-step return is exact.
    """
    carried = lambda_ * continuation(inputs)
    bootstrap = torch.cat([inputs.discount[:, :-1] - carried, inputs.discount[:, -1:]], 1)
    return reverse_scan(inputs.reward + bootstrap * inputs.v[:, 1:], carried)


def v_corrections(inputs: TraceInputs, rho: Tensor, trace: Tensor) -> Tensor:
    """Return A_t = rho_t (r_t + d_t v_{t+1} - v_t) + d_t k_t c_t A_{t+1} [B, n]: V-trace's vs_t - v_t.

    rho, trace [B, n]. Unlike action values, the coefficient c_t that carries step t+1 back is that of the
    action at t itself: a state value holds for the policy's action, not for the one taken.
    """
    td_error = inputs.reward + inputs.discount * inputs.v[:, 1:] - inputs.v[:, :-1]
    return reverse_scan(rho * td_error, continuation(inputs) * trace[:, :-1])


def bootstrap_next(inputs: TraceInputs, correction: Tensor) -> Tensor:
    """Return r_t + d_t vs_{t+1} [B, n] with vs = v + correction, and vs = v where row t+1 is not of the episode.

    It is V-trace's estimate of Q(s_t, a_t) (Espeholt et al. 2018). correction [B, n].
    """
    returns = inputs.reward + inputs.discount * inputs.v[:, 1:]
    returns[:, :-1] += continuation(inputs) * correction[:, 1:]
    return returns
