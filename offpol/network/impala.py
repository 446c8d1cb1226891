"""The IMPALA residual network (Espeholt et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from offpol.layers import ByteConv2d, Heads, HeadsConfig, channels_last, require_image
from offpol.types import EnvSpec, NetworkOutput, Outputs


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x)))), 3x3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.second(torch.relu(self.first(torch.relu(inputs))))


class Impala(nn.Module):
    """Stages of convolution, 3x3/2 max-pool and residual blocks, then heads.

    `width` multiplies the channels of every stage; `layer_norm` normalises the flattened features.
    """

    def __init__(
        self, channels: tuple[int, ...], width: int, residual_blocks: int, layer_norm: bool, heads: HeadsConfig, *,
        spec: EnvSpec, outputs: Outputs,
    ) -> None:  # fmt: skip
        super().__init__()
        planes, height, side = require_image(spec, "impala", 16, 16), *spec.obs_shape[1:]
        stages: list[nn.Module] = []
        for number, size in enumerate(width * base for base in channels):
            convolution = ByteConv2d if number == 0 else nn.Conv2d
            stages += [convolution(planes, size, 3, padding=1), nn.MaxPool2d(3, stride=2, padding=1)]
            stages += [Residual(size) for _ in range(residual_blocks)]
            planes, height, side = size, (height + 1) // 2, (side + 1) // 2
        features = planes * height * side
        norm = [nn.LayerNorm(features)] if layer_norm else []
        self.torso = nn.Sequential(*stages, nn.ReLU(), nn.Flatten(), *norm)
        self.heads = Heads(heads, features, spec.num_actions, outputs)
        channels_last(self)

    def forward(self, obs: Tensor) -> NetworkOutput:
        """Map byte images [M, stack, height, width] to values and policy."""
        return self.heads(self.torso(obs))
