"""Advantage-weighted policy learning: AWR, AWAC, CRR on the logged action, MPO's and Muesli's form on all."""

import math
from typing import Literal

import torch
from torch import Tensor

from offpol.policy_base import LearnedPolicy
from offpol.processes import joint_mean
from offpol.temperature import Temperature, TemperatureConfig
from offpol.types import PolicyInputs


class AdvantageWeighted(LearnedPolicy):
    """Raise the likelihood of actions by bounded, detached weights of their advantage A = Q - V.

    actions "logged": loss = -w log pi(a|s) with w = min(exp(A/T), cap), or 1[A > 0] for weight "binary" (AWR, Peng
    et al. 2019, with advantage "returns"; AWAC, Nair et al. 2020, and CRR, Wang et al. 2020, with "value").
    actions "all": loss = -sum_a target(a) log pi(a|s) over every action, with target(a) proportional to
    pi'(a)^prior max(exp((A - max A) / T), cap^-2), or pi'(a)^prior 1[A >= 0]; pi' is the target network's policy
    (categorical MPO, Abdolmaleki et al. 2018; Muesli's CMPO, Hessel et al. 2021).

    T is `Temperature`'s. With prior 1 the same push repeats at every refresh of pi': the logits grow without
    bound and any T only sets how fast the entropy goes. With prior < 1 they settle at A / (T (1 - prior)),
    averaged over about 1 / (1 - prior) refreshes; control "entropy" then sets T by the entropy that is wanted.
    """

    def __init__(
        self,
        actions: Literal["all", "logged"],
        weight: Literal["exp", "binary"],
        advantage: Literal["value", "returns"],
        cap: float,
        prior: float,
        temperature: TemperatureConfig,
    ) -> None:
        super().__init__()
        if not 1 < cap < math.inf:
            raise ValueError(f"cap must be finite and above 1, but is {cap}: it bounds exp(A / T), 20 is usual.")
        if not 0 <= prior <= 1:
            raise ValueError(f"prior must lie in [0, 1], but is {prior}: set it to a number in that range.")
        if actions == "all" and advantage == "returns":
            raise ValueError("advantage must be 'value' where actions is 'all': returns exist for one action only.")
        if temperature.control == "entropy" and (actions, weight) != ("all", "exp"):
            raise ValueError(
                "temperature.control 'entropy' needs actions 'all' and weight 'exp': set it to 'scale' or 'fixed'."
            )
        self.actions, self.weight, self.advantage = actions, weight, advantage
        self.log_cap, self.prior = math.log(cap), prior
        self.temperature = Temperature(temperature)

    def loss(self, inputs: PolicyInputs, measure: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted negative log-likelihood [M] and, with `measure`, numbers to log.

        Adapts the scale and the temperature: call it once per update.
        """
        log_pi = torch.log_softmax(inputs.logits, -1)
        with torch.no_grad():
            gaps = inputs.gaps
            squares = inputs.advantage.square() if self.advantage == "returns" else gaps.square().mean(-1)
            divisor = self.temperature(joint_mean(squares, inputs.share))
            weights = self._all if self.actions == "all" else self._logged
            target, log = weights(inputs, gaps, divisor, measure)
            if measure:
                log["temperature"] = divisor
        return -(target * log_pi).sum(-1), log

    def _all(
        self, inputs: PolicyInputs, gaps: Tensor, divisor: Tensor, measure: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the target distribution [M, A] over all actions, and adapt the temperature to its entropy."""
        prior = self.prior * inputs.log_prior
        if self.weight == "binary":
            # Rounding may leave every advantage just below 0: the best action always stays.
            cut = gaps < gaps.amax(-1, keepdim=True).clamp(max=0.0)
            exponent = torch.zeros_like(gaps).masked_fill(cut, -torch.inf)
        else:
            # From the best action down, not around V: actions above it keep their order, however small T is, and the
            # entropy goes to 0 with T, which its control relies on.
            exponent = ((gaps - gaps.amax(-1, keepdim=True)) / divisor).clamp(min=-2 * self.log_cap)
        target = torch.softmax(prior + exponent, -1)
        target_entropy = joint_mean(torch.special.entr(target).sum(-1), inputs.share)
        self.temperature.adapt(target_entropy, gaps.shape[-1])
        if not measure:
            return target, {}
        saturated = (exponent <= -2 * self.log_cap).to(gaps.dtype).mean(-1)
        effective = 1.0 / (target.square() / torch.softmax(prior, -1)).sum(-1)
        return target, {
            "policy_target_entropy": target_entropy,
            "saturated_weights": saturated @ inputs.share,
            "weights_effective_share": effective @ inputs.share,
        }

    def _logged(
        self, inputs: PolicyInputs, gaps: Tensor, divisor: Tensor, measure: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return weights [M, A], zero but for the logged action's, and how uneven they are over the batch."""
        taken = inputs.action.unsqueeze(-1)
        gap = inputs.advantage.unsqueeze(-1) if self.advantage == "returns" else gaps.gather(-1, taken)
        if self.weight == "binary":
            saturated = gap > 0
            weight = saturated.to(gaps.dtype)
        else:
            exponent = (gap / divisor).clamp(max=self.log_cap)
            saturated, weight = exponent >= self.log_cap, exponent.exp()
        target = torch.zeros_like(gaps).scatter(-1, taken, weight)
        if not measure:
            return target, {}
        mean, square = weight.squeeze(-1) @ inputs.share, weight.square().squeeze(-1) @ inputs.share
        return target, {
            "mean_weight": mean,
            "saturated_weights": saturated.squeeze(-1).to(weight.dtype) @ inputs.share,
            "weights_effective_share": mean.square() / square.clamp(min=torch.finfo(square.dtype).tiny),
        }
