"""The small convolution of the MinAtar paper (Young & Tian 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from offpol.layers import Heads, HeadsConfig, channel_norm, require_image
from offpol.types import EnvSpec, NetworkOutput, Outputs


class MinAtar(nn.Module):
    """One 3x3 convolution with ReLU, made for binary channels, then heads; `layer_norm` comes before the ReLU."""

    def __init__(
        self, channels: int, layer_norm: bool, heads: HeadsConfig, *, spec: EnvSpec, outputs: Outputs,
    ) -> None:  # fmt: skip
        super().__init__()
        planes = require_image(spec, "minatar", 3, 3)
        _, height, width = spec.obs_shape
        self.scale = spec.obs_scale
        self.conv = nn.Conv2d(planes, channels, 3)
        self.norm = channel_norm(layer_norm, channels)
        features = channels * (height - 2) * (width - 2)
        self.heads = Heads(heads, features, spec.num_actions, outputs)

    def forward(self, obs: Tensor) -> NetworkOutput:
        """Map observations [M, planes, height, width] to values and policy."""
        seen = obs if self.scale == 1.0 else obs * self.scale
        return self.heads(torch.relu_(self.norm(self.conv(seen))).flatten(1))
