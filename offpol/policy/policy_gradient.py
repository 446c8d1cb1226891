"""Off-policy policy gradients: V-trace's, ACER's and Reactor's."""

from typing import Literal

import torch
from torch import Tensor

from offpol.policy_base import LearnedPolicy, entropy, log_ratio
from offpol.processes import joint_mean
from offpol.types import PolicyInputs


class PolicyGradient(LearnedPolicy):
    """Follow the gradient of the value of pi, from actions that mu took; `entropy` H(pi) is added to the objective.

    With rho = pi(a)/mu(a) of the online policy, G the trace's return, A its advantage, Q and V of the target network:

    - vtrace: min(clip, rho) A grad log pi(a) (Espeholt et al. 2018).
    - none: A grad log pi(a), for advantages that carry their ratio already (`puffer`) or data that pi itself gathered.
    - acer: [min(clip, rho) (G - V) + max(0, rho - clip) (Q(a) - V)] grad log pi(a) (Wang et al. 2017). The second
      term, the correction of the first's truncation, is a sum over all actions in the paper; only mu of the logged
      action is stored, so its logged term stands for it: the same mean over mu, free of G's noise, but with a
      weight that has no bound, as the paper's has. Where pi leaves mu far behind, `beta_loo` varies far less.
    - beta_loo: beta (G - Q(a)) grad pi(a) + sum_a' Q(a') grad pi(a'), beta = min(clip, 1/mu(a)) (Gruslys et al. 2018).

    With `normalise`, for the first two, A has mean 0 and standard deviation 1 in every batch, as in PPO and PufferLib.
    """

    def __init__(
        self, correction: Literal["vtrace", "none", "acer", "beta_loo"], clip: float, entropy: float, normalise: bool
    ) -> None:
        super().__init__()
        if not clip > 0:
            raise ValueError(f"clip must be positive, but is {clip}: 1 is usual, 10 for acer.")
        if not entropy >= 0:
            raise ValueError(f"entropy must not be negative, but is {entropy}: 0 leaves the bonus out.")
        if normalise and correction not in ("vtrace", "none"):
            raise ValueError(f"normalise is for the advantages of vtrace and none, not for {correction}: turn it off.")
        self.needs_mu, self.weighs_advantage = correction != "none", correction == "vtrace"
        self.correction, self.clip, self.entropy, self.normalise = correction, clip, entropy, normalise

    def loss(self, inputs: PolicyInputs, measure: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss [M] whose gradient is the negative of the one above, and numbers to log."""
        log_pi = torch.log_softmax(inputs.logits, -1)
        taken = inputs.action.unsqueeze(-1)
        log_taken = log_pi.gather(-1, taken).squeeze(-1)
        gaps = inputs.gaps
        gap = gaps.gather(-1, taken).squeeze(-1)
        surprise = inputs.returns - inputs.q_values.gather(-1, taken).squeeze(-1)  # G - Q(a)
        rho = log_ratio(log_taken.detach(), inputs.log_mu).exp()
        advantage = _normalised(inputs.advantage, inputs.share) if self.normalise else inputs.advantage
        if self.correction == "vtrace":
            weight = rho.clamp(max=self.clip)
            objective = weight * advantage * log_taken
        elif self.correction == "none":
            weight = torch.ones_like(rho)
            objective = advantage * log_taken
        elif self.correction == "acer":
            weight = rho.clamp(max=self.clip)
            objective = (weight * (surprise + gap) + (rho - weight) * gap) * log_taken
        else:
            weight = log_ratio(torch.zeros_like(inputs.log_mu), inputs.log_mu).exp().clamp(max=self.clip)
            objective = weight * surprise * log_taken.exp() + (gaps * log_pi.exp()).sum(-1)
        loss = -objective - self.entropy * entropy(log_pi)
        if not measure or self.correction == "none":
            return loss, {}
        saturated = (weight >= self.clip).to(weight.dtype)
        return loss, {"mean_weight": weight @ inputs.share, "saturated_weights": saturated @ inputs.share}


def _normalised(advantage: Tensor, share: Tensor) -> Tensor:
    """Shift and scale advantages [M] to mean 0 and standard deviation 1 over the rows that count."""
    centred = advantage - joint_mean(advantage, share)
    return centred / (joint_mean(centred.square(), share).sqrt() + 1e-8)
