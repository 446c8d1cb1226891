"""Which parts mean nothing together."""

from __future__ import annotations

from offpol.contracts.critics import check_critic
from offpol.contracts.networks import check_buffers
from offpol.contracts.policies import check_policy
from offpol.contracts.traces import check_trace
from offpol.layers import is_noisy
from offpol.policy_base import PolicyBase
from offpol.types import Critic, Network, Policy, Trace


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
    check_critic(critic, trace, window)
    check_policy(policy, critic, trace, window)
    check_buffers(network)
