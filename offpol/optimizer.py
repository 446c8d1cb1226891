"""The optimizer of all parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from offpol.types import StateDict

BETA_1, BETA_2 = 0.9, 0.999


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, with the gradient's norm clipped; biases and the scales of norms do not decay.

    Raises ValueError for senseless values.
    """

    learning_rate: float
    epsilon: float
    weight_decay: float
    max_gradient_norm: float

    def __post_init__(self) -> None:
        for name in ("learning_rate", "epsilon", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, but is {getattr(self, name)}.")
        if not self.max_gradient_norm > 0:
            raise ValueError(f"max_gradient_norm must be positive, but is {self.max_gradient_norm}: .inf never clips.")


class AdamW:
    """AdamW (Loshchilov & Hutter 2019) of named parameters, with the gradient's norm clipped.

    It calls the fused kernel of torch.optim.AdamW directly, and has it clip on the way: for small networks, what torch
    puts around the kernel takes longer than the kernel.
    """

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig) -> None:
        self.config = config
        spared: list[nn.Parameter] = []
        decayed: list[nn.Parameter] = []
        for name, parameter in parameters:
            spares = config.weight_decay == 0 or parameter.ndim < 2 or "bias" in name
            (spared if spares else decayed).append(parameter)
        self.parameters: list[Tensor] = [*spared, *decayed]
        groups = (slice(len(spared)), 0.0), (slice(len(spared), None), config.weight_decay)
        self._groups = [(part, decay) for part, decay in groups if self.parameters[part]]
        self.averages = [torch.zeros_like(parameter) for parameter in self.parameters]  # of gradients
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]  # averages of their squares
        self.steps = torch.zeros(len(self.parameters), device=self.parameters[0].device)  # that were taken of each

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> Tensor:
        """Take one step down the parameters' gradients; return their joint norm before clipping (0-dim)."""
        gradients = [_gradient(parameter) for parameter in self.parameters]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        excess = (norm / self.config.max_gradient_norm).clamp(min=1.0)
        self.steps += 1
        steps = self.steps.unbind()
        for part, decay in self._groups:
            torch._fused_adamw_(
                self.parameters[part], gradients[part], self.averages[part], self.squares[part], [], steps[part],
                lr=self.config.learning_rate, beta1=BETA_1, beta2=BETA_2, weight_decay=decay,
                eps=self.config.epsilon, amsgrad=False, maximize=False, grad_scale=excess,
            )  # fmt: skip
        return norm

    def forget(self, parameter: Tensor) -> None:
        """Start anew with a parameter, as if it had never been stepped."""
        index = next(i for i, known in enumerate(self.parameters) if known is parameter)
        for moment in (self.averages[index], self.squares[index], self.steps[index]):
            moment.zero_()

    def state_dict(self) -> StateDict:
        """Everything that steps change, beside the parameters."""
        return {"averages": self.averages, "squares": self.squares, "steps": self.steps}

    def load_state_dict(self, state: StateDict) -> None:
        """Go on from where `state_dict` was taken, on any device."""
        with torch.no_grad():
            for name in ("averages", "squares"):
                torch._foreach_copy_(getattr(self, name), state[name])
            self.steps.copy_(state["steps"])


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
