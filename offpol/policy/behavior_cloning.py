"""Behavior cloning: do as the data does."""

import torch
from torch import Tensor

from offpol.policy_base import LearnedPolicy
from offpol.types import PolicyInputs


class BehaviorCloning(LearnedPolicy):
    """loss = -log pi(a|s) of the logged action: pi becomes the replay's mixture of behaviors, its values Sarsa's."""

    reads_rows = "next"

    def loss(self, inputs: PolicyInputs, measure: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the negative log-likelihood [M], and its mean with the share of actions that pi would choose."""
        log_pi = torch.log_softmax(inputs.logits, -1)
        loss = -log_pi.gather(-1, inputs.action.unsqueeze(-1)).squeeze(-1)
        if not measure:
            return loss, {}
        agrees = (log_pi.argmax(-1) == inputs.action).to(loss.dtype)
        return loss, {"agreement": agrees @ inputs.share}
