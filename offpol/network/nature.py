"""The Nature DQN network (Mnih et al. 2015): three convolutions over 84x84 images."""

from __future__ import annotations

from torch import Tensor, nn

from offpol.layers import Heads, HeadsConfig, ScaledConv2d, channel_norm, channels_last, require_image
from offpol.types import EnvSpec, NetworkOutput, Outputs


class Nature(nn.Module):
    """Convolutions 32x8x8/4, 64x4x4/2, 64x3x3/1 with ReLU, then heads; `layer_norm` comes before each ReLU (PQN)."""

    def __init__(self, layer_norm: bool, heads: HeadsConfig, *, spec: EnvSpec, outputs: Outputs) -> None:
        super().__init__()
        channels = require_image(spec, "nature", 36, 36)
        self.torso = nn.Sequential(
            ScaledConv2d(spec.obs_scale, channels, 32, 8, 4), channel_norm(layer_norm, 32), nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, 4, stride=2), channel_norm(layer_norm, 64), nn.ReLU(inplace=True),
            nn.Conv2d(64, 64, 3), channel_norm(layer_norm, 64), nn.ReLU(inplace=True), nn.Flatten(),
        )  # fmt: skip
        height, width = (((side - 4) // 4 - 2) // 2 - 2 for side in spec.obs_shape[1:])
        self.heads = Heads(heads, 64 * height * width, spec.num_actions, outputs)
        channels_last(self)

    def forward(self, obs: Tensor) -> NetworkOutput:
        """Map images [M, stack, height, width] to values and policy."""
        return self.heads(self.torso(obs))
