"""The IMPALA residual network (Espeholt et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from offpol.layers import Heads, HeadsConfig, ScaledConv2d, SpectralConv2d, channel_norm, channels_last, require_image
from offpol.types import EnvSpec, NetworkOutput, Outputs


class Residual(nn.Module):
    """x + conv(norm(relu(conv(norm(relu(x)))))), 3x3; the norm is optional."""

    def __init__(self, channels: int, convolution: Callable[..., nn.Conv2d], layer_norm: bool) -> None:
        super().__init__()
        self.first = convolution(channels, channels, 3, padding=1)
        self.second = convolution(channels, channels, 3, padding=1)
        self.norms = nn.ModuleList(channel_norm(layer_norm, channels) for _ in range(2))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(self.norms[0](torch.relu(inputs)))
        change: Tensor = self.second(self.norms[1](torch.relu(hidden)))
        return inputs + change


class Impala(nn.Module):
    """Stages of convolution, 3x3/2 max-pool and residual blocks, then heads.

    `width` multiplies the channels of every stage. `pool_size` max-pools what comes out to so many rows and columns,
    and `spectral_norm` divides the residual blocks' weights by their largest singular values (BTR, Clark et al. 2025).
    `layer_norm` normalises in the residual blocks, and the flattened features.
    """

    def __init__(
        self, channels: tuple[int, ...], width: int, residual_blocks: int, pool_size: int | None, layer_norm: bool,
        spectral_norm: bool, heads: HeadsConfig, *, spec: EnvSpec, outputs: Outputs,
    ) -> None:  # fmt: skip
        super().__init__()
        planes, height, side = require_image(spec, "impala", 16, 16), *spec.obs_shape[1:]
        residual = partial(Residual, convolution=SpectralConv2d if spectral_norm else nn.Conv2d, layer_norm=layer_norm)
        layers: list[nn.Module] = []
        for number, size in enumerate(width * base for base in channels):
            convolution = nn.Conv2d if number else partial(ScaledConv2d, spec.obs_scale)
            layers += [convolution(planes, size, 3, padding=1), nn.MaxPool2d(3, stride=2, padding=1)]
            layers += [residual(size) for _ in range(residual_blocks)]
            planes, height, side = size, (height + 1) // 2, (side + 1) // 2
        layers.append(nn.ReLU())
        if pool_size is not None:
            if not 1 <= pool_size <= min(height, side):
                raise ValueError(
                    f"pool_size must be between 1 and {min(height, side)}, as {height}x{side} come out of the stages, "
                    f"but is {pool_size}."
                )
            layers.append(nn.AdaptiveMaxPool2d(pool_size))
            height = side = pool_size
        features = planes * height * side
        norm = [nn.LayerNorm(features)] if layer_norm else []
        self.torso = nn.Sequential(*layers, nn.Flatten(), *norm)
        self.heads = Heads(heads, features, spec.num_actions, outputs)
        channels_last(self)

    def forward(self, obs: Tensor) -> NetworkOutput:
        """Map images [M, stack, height, width] to values and policy."""
        return self.heads(self.torso(obs))
