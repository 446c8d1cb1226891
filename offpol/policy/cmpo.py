"""Muesli's policy update: clipped MPO, with an optional policy gradient beside it."""

import torch
from torch import Tensor

from offpol.policy_base import LearnedPolicy, log_ratio
from offpol.processes import joint_mean
from offpol.temperature import RunningScale
from offpol.types import PolicyInputs


class CMPO(LearnedPolicy):
    """loss = -sum_a target(a) log pi(a|s) - gradient rho (G - V) / scale log pi(a_t|s) (Hessel et al. 2021).

    target(a) is proportional to pi'(a) exp(clip((Q(s, a) - V(s)) / scale, -clip, clip)), pi', Q and V of the target
    network: at most tanh(clip / 2) from pi' in total variation. G - V is the trace's advantage, and scale its running
    root mean square: both terms are of the order of 1. rho = min(rho_clip, pi/mu) of the online policy, detached.
    """

    def __init__(self, clip: float, gradient: float, rho_clip: float, scale_decay: float) -> None:
        super().__init__()
        for name, number in (("clip", clip), ("rho_clip", rho_clip)):
            if not number > 0:
                raise ValueError(f"{name} must be positive, but is {number}: 1 is usual.")
        if not gradient >= 0:
            raise ValueError(f"gradient must not be negative, but is {gradient}: 0 leaves the policy gradient out.")
        if not 0 <= scale_decay < 1:
            raise ValueError(f"scale_decay must lie in [0, 1), but is {scale_decay}: 0.99 is usual.")
        self.clip, self.gradient, self.rho_clip = clip, gradient, rho_clip
        self.needs_mu = self.weighs_advantage = gradient > 0
        self.scale = RunningScale(scale_decay)

    def loss(self, inputs: PolicyInputs, measure: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss [M] and numbers to log. Updates the running scale: call it once per update."""
        log_pi = torch.log_softmax(inputs.logits, -1)
        log_taken = log_pi.gather(-1, inputs.action.unsqueeze(-1)).squeeze(-1)
        with torch.no_grad():
            scale = self.scale(joint_mean(inputs.advantage.square(), inputs.share))
            scaled = inputs.gaps / scale
            log_prior = inputs.log_prior
            target = torch.softmax(log_prior + scaled.clamp(-self.clip, self.clip), -1)
            rho = log_ratio(log_taken, inputs.log_mu).exp().clamp(max=self.rho_clip)
        push = rho * inputs.advantage / scale
        loss = -(target * log_pi).sum(-1) - self.gradient * push * log_taken
        if not measure:
            return loss, {}
        saturated = (scaled.abs() > self.clip).to(scaled.dtype).mean(-1)
        return loss, {"advantage_scale": scale, "saturated_weights": saturated @ inputs.share}
