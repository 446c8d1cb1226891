"""The optimizer of all parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from offpol.layers import EnsembleNorm
from offpol.types import Module, StateDict

NORMS = (nn.LayerNorm, nn.GroupNorm, EnsembleNorm)


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
            raise ValueError(
                f"max_gradient_norm must be positive, but is {self.max_gradient_norm}: inf (.inf in yaml) never clips."
            )


def adamw(modules: Iterable[Module], config: OptimizerConfig) -> torch.optim.AdamW:
    """Build the optimizer of all parameters of these modules."""
    kept: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    for module in modules:
        norms = {id(scale) for layer in module.modules() if isinstance(layer, NORMS) for scale in layer.parameters()}
        for name, parameter in module.named_parameters():
            ndim = parameter.ndim - name.startswith("member.")  # `Networks` stacks its members' parameters
            spared = config.weight_decay == 0 or ndim < 2 or "bias" in name or id(parameter) in norms
            (kept if spared else decayed).append(parameter)
    groups = [{"params": kept, "weight_decay": 0.0}, {"params": decayed, "weight_decay": config.weight_decay}]
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=config.learning_rate, eps=config.epsilon, fused=True,
        capturable=(kept or decayed)[0].is_cuda,
    )  # fmt: skip
    # It would warn that steps outside of a graph are slower so: fused, they are not.
    optimizer._warned_capturable_if_run_uncaptured = True
    return optimizer


def load_adamw(optimizer: torch.optim.AdamW, state: StateDict) -> None:
    """Load an optimizer's state, which may come from another device: what that asks for stays as it is here."""
    capturable = [group.get("capturable") for group in optimizer.param_groups]  # another optimizer may have none
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, capturable, strict=True):
        if own is not None:
            group["capturable"] = own
