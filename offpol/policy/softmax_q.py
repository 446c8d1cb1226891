"""Act and evaluate by a softmax of Q; nothing is learned beside the critic."""

import torch
from torch import Tensor

from offpol.policy_base import PolicyBase


class SoftmaxQ(PolicyBase):
    """pi(a|s) proportional to exp(Q(s, a) / temperature): expected Sarsa with a Boltzmann policy.

    With `double` the online network's Q gives the probabilities by which the target network's is averaged.
    """

    reads_rows = "next"

    def __init__(self, temperature: float, double: bool) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, but is {temperature}: use policy=greedy for none.")
        self.temperature, self.double = temperature, double

    def probs(self, q: Tensor, policy_logits: Tensor) -> Tensor:
        """Return the softmax [..., A] of Q(s, .) [..., A]; the policy logits are ignored."""
        return torch.softmax(q / self.temperature, -1)
