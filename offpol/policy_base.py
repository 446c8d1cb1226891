"""What every policy shares."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from offpol.types import PolicyInputs, TraceInputs


class PolicyBase(nn.Module):
    """A policy that evaluates what the target network prefers, learns nothing and leaves rewards as they are."""

    double = False  # type: ignore[assignment]  # hides nn.Module.double: convert by .to(torch.float64)
    learned = False
    needs_mu = False
    weighs_advantage = False
    reads_rows: Literal["next", "trained", "all"] = "trained"

    def regularise(self, inputs: TraceInputs) -> TraceInputs:
        """Return what the trace sees: the inputs as they are."""
        return inputs

    def loss(self, inputs: PolicyInputs, measure: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """Return zeros [M] without gradient, and nothing to log."""
        return torch.zeros_like(inputs.returns), {}


class LearnedPolicy(PolicyBase):
    """A policy whose logits the network returns; `loss` is its own."""

    learned = True

    def probs(self, q: Tensor, policy_logits: Tensor) -> Tensor:
        """Return the softmax of the policy logits [..., A]."""
        return torch.softmax(policy_logits, -1)


def entropy(log_pi: Tensor) -> Tensor:
    """Return the entropy [...] of log-probabilities [..., A], in nats."""
    return -(log_pi.exp() * log_pi).sum(-1)


def log_ratio(log_pi: Tensor, log_mu: Tensor) -> Tensor:
    """Return log(pi/mu), held where its exponential is finite."""
    return (log_pi - log_mu).clamp(max=0.5 * math.log(torch.finfo(log_pi.dtype).max))
