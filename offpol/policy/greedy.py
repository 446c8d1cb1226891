"""Act and evaluate greedily; nothing is learned beside the critic."""

import torch
from torch import Tensor, nn

from offpol.types import PolicyInputs


class Greedy(nn.Module):
    """pi(a|s) = 1[a maximises Q(s, .)], ties split evenly (Mnih et al. 2015).

    With `double` the online network's Q chooses the action that the target network values (van Hasselt et
    al. 2016), otherwise the target network does both.
    """

    double: bool  # type: ignore[assignment]  # hides nn.Module.double: convert by .to(torch.float64)

    def __init__(self, double: bool) -> None:
        super().__init__()
        self.double = double

    def probs(self, q: Tensor, policy_logits: Tensor) -> Tensor:
        """Return the greedy distribution [..., A] of Q(s, .) [..., A]; the policy logits are ignored."""
        best = (q == q.amax(-1, keepdim=True)).to(q.dtype)
        return best / best.sum(-1, keepdim=True)

    def loss(self, inputs: PolicyInputs) -> tuple[Tensor, dict[str, Tensor]]:
        """Return zeros [M] without gradient, and nothing to log."""
        return torch.zeros_like(inputs.returns), {}
