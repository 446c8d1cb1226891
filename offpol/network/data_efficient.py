"""The data-efficient Rainbow network (van Hasselt et al. 2019): two wide-stride convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from offpol.layers import Heads, HeadsConfig, ScaledConv2d, channel_norm, channels_last, require_image
from offpol.types import EnvSpec, NetworkOutput, Outputs


class DataEfficient(nn.Module):
    """Convolutions 32x5x5/5 and 64x5x5/5 with ReLU, then heads: about a sixth of Nature's operations.

    `layer_norm` comes before each ReLU.
    """

    def __init__(self, layer_norm: bool, heads: HeadsConfig, *, spec: EnvSpec, outputs: Outputs) -> None:
        super().__init__()
        channels = require_image(spec, "data_efficient", 25, 25)
        self.torso = nn.Sequential(
            ScaledConv2d(spec.obs_scale, channels, 32, 5, 5), channel_norm(layer_norm, 32), nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, 5, stride=5), channel_norm(layer_norm, 64), nn.ReLU(inplace=True), nn.Flatten(),
        )  # fmt: skip
        height, width = (side // 5 // 5 for side in spec.obs_shape[1:])
        self.heads = Heads(heads, 64 * height * width, spec.num_actions, outputs)
        channels_last(self)

    def forward(self, obs: Tensor) -> NetworkOutput:
        """Map images [M, stack, height, width] to values and policy."""
        return self.heads(self.torso(obs))
