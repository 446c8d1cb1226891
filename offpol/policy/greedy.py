"""Act and evaluate greedily; nothing is learned beside the critic."""

from torch import Tensor

from offpol.actions import greedy_probs
from offpol.policy_base import PolicyBase


class Greedy(PolicyBase):
    """pi(a|s) = 1[a maximises Q(s, .)], ties split evenly (Mnih et al. 2015).

    With `double` the online network's Q chooses the action that the target network values (van Hasselt et
    al. 2016), otherwise the target network does both.
    """

    reads_rows = "next"

    def __init__(self, double: bool) -> None:
        super().__init__()
        self.double = double

    def probs(self, q: Tensor, policy_logits: Tensor) -> Tensor:
        """Return the greedy distribution [..., A] of Q(s, .) [..., A]; the policy logits are ignored."""
        return greedy_probs(q)
