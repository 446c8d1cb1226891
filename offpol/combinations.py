"""Which parts mean nothing together, and whether they answer as they must."""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import Tensor

from offpol.layers import is_noisy
from offpol.n_step_transitions import join_inputs
from offpol.policy_base import PolicyBase
from offpol.types import Critic, Network, Policy, Trace, TraceInputs, TraceTargets


def check_parts(network: Network, critic: Critic, policy: Policy, trace: Trace, window: int) -> None:
    """Raise ValueError for parts that mean nothing together, with the reason."""
    names = {part: type(part).__name__ for part in (critic, policy, trace)}
    for part in (trace, policy):
        if is_noisy(network) and getattr(part, "needs_mu", False):
            raise ValueError(
                f"{names[part]} compares pi with the logged probability, which noisy layers do not have (an action's "
                "is an average over their noise): set network.heads.noisy=0, or use another trace or policy"
            )
    if critic.distributional and getattr(trace, "mixture", None) is None:
        raise ValueError(
            f"the critic {names[critic]} learns distributions, but the trace {names[trace]} is no mixture of "
            "bootstraps: use a scalar-target critic (hl_gauss, two_hot, scalar) or another trace"
        )
    if not getattr(trace, "off_policy", True):
        raise ValueError(
            f"{names[trace]} corrects nothing, but replayed data is off-policy: use trace=vtrace or puffer, or accept "
            "the bias with trace.off_policy=true (replay=recent keeps it small)"
        )
    if getattr(trace, "weighted_advantage", False) and policy.weighs_advantage:
        raise ValueError(
            f"{names[trace]}'s advantage is multiplied by pi/mu already, and {names[policy]} would do it again: "
            "use policy.correction=none (policy_gradient), policy.gradient=0 (cmpo), or trace=vtrace"
        )
    if policy.reads_rows != "all" and getattr(type(policy), "regularise", None) is not PolicyBase.regularise:
        raise ValueError(
            f"{names[policy]} has a `regularise` of its own, but says that it does not read all rows of a window: give "
            'the class `reads_rows = "all"`'
        )
    if any(parameter.requires_grad for parameter in critic.parameters()):
        raise ValueError(
            f"{names[critic]} has parameters, but only those of the network and of the policy are trained: let the "
            "network answer what is to be learned"
        )
    check_trace(trace, window)
    check_buffers(network)


def check_trace(trace: Trace, window: int) -> None:
    """Show a trace operator two windows; raise ValueError where what it answers is not what it must be."""
    name, inputs = type(trace).__name__, _two_windows(window)
    trace = copy.deepcopy(trace)
    answered = _without_chance(trace, inputs)
    if not _alike(answered, _without_chance(trace, inputs)):
        raise ValueError(
            f"{name} answers differently to the same windows: what it keeps from one call to the next would be lost "
            "with the run. Make it a function of its inputs, or keep that in a buffer of a policy or critic"
        )
    for field, values in answered._asdict().items():
        if values.shape != inputs.reward.shape:
            raise ValueError(
                f"{name} answers {field} of shape {tuple(values.shape)} to windows whose rewards [B, n] have shape "
                f"{tuple(inputs.reward.shape)}: all three answers are [B, n]"
            )
    if getattr(trace, "joins_steps", False):
        joined = _without_chance(trace, join_inputs(inputs)).returns
        if not torch.allclose(joined, answered.returns[:, :1], rtol=1e-4, atol=1e-5):
            raise ValueError(
                f"{name} says `joins_steps`, but its first returns are others where windows are joined to one n-step "
                "transition: leave the attribute out"
            )
    if getattr(trace, "needs_mu", False):
        return
    if not _alike(answered, _without_chance(trace, dataclasses.replace(inputs, log_mu=inputs.log_mu.flip(1) - 0.3))):
        raise ValueError(
            f"{name} answers differently where the logged probability is another one, but does not say so: give the "
            "class `needs_mu: ClassVar[bool] = True`, so that it is refused where actions have no probability"
        )


def _without_chance(trace: Trace, inputs: TraceInputs) -> TraceTargets:
    """Trace with the same random numbers each time, none of which are the run's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return trace(inputs)


def _alike(one: TraceTargets, two: TraceTargets) -> bool:
    return all(torch.equal(first, second) for first, second in zip(one, two, strict=True))


def _two_windows(n: int) -> TraceInputs:
    """Make windows of n transitions and two actions, the second one with an episode's end in it."""
    numbers = torch.arange(4.0 * (n + 1))
    waves = numbers[: 2 * n].view(2, n)
    ends = torch.zeros(2, n, dtype=torch.bool)
    ends[1, n // 2] = True
    return TraceInputs.of(
        q_values=(numbers * 0.9).cos().view(2, n + 1, 2),
        pi=torch.softmax((numbers * 1.7).sin().view(2, n + 1, 2), -1), action=((waves * 2.3).sin() > 0).long(),
        reward=waves - 2.0, discount=torch.where(ends, 0.0, 0.9), log_mu=(0.5 + 0.4 * (waves * 0.7).sin()).log(),
        valid_next=~ends,
    )  # fmt: skip


def check_network(network: Network, obs: Tensor, num_actions: int, critic: Critic, needs_mu: bool) -> None:
    """Show a network observations [M, *obs_shape]; raise ValueError where what it answers is not what it must be."""
    name, bins = type(network).__name__, len(critic.initial_logits)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        first, second = network(obs), network(obs)
    wanted = {"q_logits": (critic.num_critics, len(obs), num_actions, bins), "policy_logits": (len(obs), num_actions)}
    for field, shape in wanted.items():
        got = getattr(first, field, None)
        if not isinstance(got, Tensor) or got.shape != shape:
            found = f"of shape {tuple(got.shape)}" if isinstance(got, Tensor) else f"that are {type(got).__name__}"
            raise ValueError(
                f"{name} answers {field} {found} to {len(obs)} observations, but they must be of shape {shape}: "
                "critics, observations, actions, bins, or for the policy observations, actions"
            )
    # A GPU may add up the two in another order.
    near = 0.0 if obs.device.type == "cpu" else 1e-3
    if needs_mu and not torch.allclose(first.q_logits, second.q_logits, rtol=near, atol=near / 10):
        raise ValueError(
            f"{name} answers differently to the same observations (by dropout?), so that actions would not have the "
            "probability that is logged, which the trace or the policy reads: take the noise out, or use others"
        )


def check_buffers(network: Network) -> None:
    """Raise ValueError for a network that keeps what neither target networks nor actors would be given."""
    parameters: dict[str, Tensor] = dict(network.named_parameters(remove_duplicate=False))
    kept = [name for name in network.state_dict() if name not in parameters]
    if kept:
        raise ValueError(
            f"the network keeps buffers ({', '.join(kept[:3])}), which neither its target network nor actors elsewhere "
            "would follow: normalise by LayerNorm instead of BatchNorm, keep what is learned as a parameter with "
            "requires_grad=False, and what is constant by register_buffer(..., persistent=False)"
        )
