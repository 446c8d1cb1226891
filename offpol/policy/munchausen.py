"""Munchausen reinforcement learning: the policy's own log-probability as a bonus."""

from dataclasses import replace

import torch
from torch import Tensor

from offpol.policy_base import PolicyBase
from offpol.types import TraceInputs


class Munchausen(PolicyBase):
    """pi = softmax(Q / tau); r_t gains alpha clip(tau log pi(a_t|s_t), l_0, 0) (Vieillard et al. 2020).

    Values are soft: E_pi Q + tau H(pi). The entropy of the next state is added to the reward too, discounted, so that
    every trace operator and every critic, distributional ones included, learns the soft return unchanged.
    """

    reads_rows = "all"

    def __init__(self, temperature: float, alpha: float, clip: float) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, but is {temperature}: 0.03 is the paper's.")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must lie in [0, 1], but is {alpha}: 0.9 is the paper's.")
        if not clip < 0:
            raise ValueError(f"clip must be negative, but is {clip}: -1 is the paper's.")
        self.temperature, self.alpha, self.clip = temperature, alpha, clip

    def probs(self, q: Tensor, policy_logits: Tensor) -> Tensor:
        """Return the softmax [..., A] of Q(s, .) [..., A]; the policy logits are ignored."""
        return torch.softmax(q / self.temperature, -1)

    def regularise(self, inputs: TraceInputs) -> TraceInputs:
        """Add the Munchausen bonus and the next state's entropy to the rewards."""
        bonus = self.alpha * (self.temperature * inputs.log_pi).clamp(self.clip, 0.0)
        soft = self.temperature * torch.special.entr(inputs.pi[:, 1:]).sum(-1)
        return replace(inputs, reward=inputs.reward + bonus + inputs.discount * soft)
