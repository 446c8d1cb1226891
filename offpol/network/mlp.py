"""A multi-layer perceptron for vector observations."""

from __future__ import annotations

import math

from torch import Tensor, nn

from offpol.layers import Heads, HeadsConfig
from offpol.types import EnvSpec, NetworkOutput, Outputs


class MLP(nn.Module):
    """Fully connected layers of the given widths with ReLU, then heads.

    Any observation is flattened, and bytes are scaled to [0, 1].
    """

    def __init__(
        self, widths: tuple[int, ...], layer_norm: bool, heads: HeadsConfig, *, spec: EnvSpec, outputs: Outputs,
    ) -> None:  # fmt: skip
        super().__init__()
        if min(widths, default=1) < 1:
            raise ValueError(f"widths must be at least 1 each, but are {list(widths)}: [] leaves the torso out.")
        self.scale = spec.obs_scale
        layers: list[nn.Module] = []
        size = math.prod(spec.obs_shape)
        for width in widths:
            layers += [nn.Linear(size, width), *([nn.LayerNorm(width)] if layer_norm else []), nn.ReLU()]
            size = width
        self.torso = nn.Sequential(*layers)
        self.heads = Heads(heads, size, spec.num_actions, outputs)

    def forward(self, obs: Tensor) -> NetworkOutput:
        """Map observations [M, ...] to values and policy."""
        flat = obs.flatten(1)
        return self.heads(self.torso(flat if self.scale == 1.0 else flat * self.scale))
