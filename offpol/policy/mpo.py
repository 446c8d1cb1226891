"""Categorical MPO: improve by a KL-bounded step, then follow it by another."""

import torch
from torch import Tensor

from offpol.policy_base import LearnedPolicy
from offpol.processes import joint_mean
from offpol.temperature import Multiplier
from offpol.types import PolicyInputs

_REACH = 1e6  # the duals stay within this factor of their start


class MPO(LearnedPolicy):
    """loss = -sum_a target(a) log pi(a|s) + alpha KL(pi' | pi), target(a) proportional to pi'(a) exp(Q(s, a) / eta).

    pi' and Q are the target network's (Abdolmaleki et al. 2018, with sums over all actions for samples). The duals are
    learned: eta's gradient is epsilon - KL(target | pi'), alpha's is epsilon_policy - KL(pi' | pi), both means over the
    batch. Each is descended in its logarithm by dual_rate times that gradient in units of its epsilon, held to
    +-1: the dual's own learning rate, whatever the networks' optimizer does.
    """

    def __init__(
        self, epsilon: float, epsilon_policy: float, temperature: float, penalty: float, dual_rate: float
    ) -> None:
        super().__init__()
        given = {
            "epsilon": epsilon, "epsilon_policy": epsilon_policy, "temperature": temperature, "penalty": penalty,
            "dual_rate": dual_rate,
        }  # fmt: skip
        for name, number in given.items():
            if not number > 0:
                raise ValueError(f"{name} must be positive, but is {number}: raise it above 0.")
        self.epsilon, self.epsilon_policy = epsilon, epsilon_policy
        self.temperature = Multiplier(temperature, dual_rate, _REACH)
        self.penalty = Multiplier(penalty, dual_rate, _REACH)

    def loss(self, inputs: PolicyInputs, measure: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss [M] and numbers to log. Moves the duals: call it once per update."""
        log_pi = torch.log_softmax(inputs.logits, -1)
        log_prior = inputs.log_prior
        drift = (inputs.pi * (log_prior - log_pi)).sum(-1)
        with torch.no_grad():
            eta, alpha = self.temperature(), self.penalty()
            log_target = torch.log_softmax(log_prior + inputs.q_values / eta, -1)
            target = log_target.exp()
            step = joint_mean((target * (log_target - log_prior)).sum(-1), inputs.share)
            mean_drift = joint_mean(drift, inputs.share)
            self.temperature.push(((step - self.epsilon) / self.epsilon).clamp(-1.0, 1.0))
            self.penalty.push(((mean_drift - self.epsilon_policy) / self.epsilon_policy).clamp(-1.0, 1.0))
        loss = -(target * log_pi).sum(-1) + alpha * drift
        if not measure:
            return loss, {}
        return loss, {
            "policy_target_kl": step, "policy_drift_kl": mean_drift, "temperature": eta, "policy_penalty": alpha,
        }  # fmt: skip
