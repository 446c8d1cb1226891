"""Layers that several networks share: images in, values and policy out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from offpol.types import EnvSpec, Module, NetworkOutput, Outputs


class ScaledConv2d(nn.Conv2d):
    """A convolution over images [M, C, H, W] that are multiplied by `scale` through its weight.

    Scaling the weight costs microseconds where scaling the images costs milliseconds, and the gradient that
    reaches the parameter is the one of the scaled images, so optimizers see no difference.
    """

    def __init__(
        self, scale: float, num_inputs: int, num_outputs: int, kernel_size: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__(num_inputs, num_outputs, kernel_size, stride=stride, padding=padding)
        self.scale = scale

    def forward(self, obs: Tensor) -> Tensor:
        pixels = obs.contiguous(memory_format=torch.channels_last)
        result: Tensor = self._conv_forward(pixels, self.weight * self.scale, self.bias)
        return result


def channels_last(network: nn.Module) -> None:
    """Lay a network's convolutions out as replayed images lie in memory; not worth it for very small images."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def full_precision(device_type: str) -> AbstractContextManager[object]:
    """Turn autocast off inside a `with`, where it is on: only then is that worth its microseconds."""
    return torch.autocast(device_type, enabled=False) if torch.is_autocast_enabled(device_type) else nullcontext()


class SpectralConv2d(nn.Conv2d):
    """A convolution whose weight, as a matrix [out, in * height * width], is divided by its largest singular value.

    That value is followed by one step of power iteration a call (Miyato et al. 2018; in BTR, Clark et al. 2025). The
    vector it needs is kept as a parameter without gradient, so that it is copied, saved and averaged with the weight;
    it moves only where a gradient is asked for, so acting and evaluating change nothing.
    """

    def __init__(self, num_inputs: int, num_outputs: int, kernel_size: int, padding: int) -> None:
        super().__init__(num_inputs, num_outputs, kernel_size, padding=padding)
        self.left = nn.Parameter(F.normalize(torch.randn(num_outputs), dim=0), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        matrix = self.weight.flatten(1)
        with full_precision(inputs.device.type):  # a norm of three digits would be no norm
            weight = self.weight / self._norm(matrix)
        result: Tensor = self._conv_forward(inputs, weight, self.bias)
        return result

    def _norm(self, matrix: Tensor) -> Tensor:
        """Estimate the largest singular value of a matrix, and move the vector that it is followed by."""
        with torch.no_grad():
            right = F.normalize(self.left @ matrix, dim=0)
            left = F.normalize(matrix @ right, dim=0)
        if torch.is_grad_enabled():
            self.left.copy_(left)
        return left @ matrix @ right


def require_image(spec: EnvSpec, network: str, height: int, width: int) -> int:
    """Check that observations are images [channels, height, width] of at least that size; return the channels."""
    if len(spec.obs_shape) == 2:
        raise ValueError(
            f"network {network} needs images with channels [channels, height, width], but {spec.name} gives "
            f"{spec.obs_shape}: stack frames (env.protocol.stack=4 on Atari), or choose network=mlp"
        )
    if len(spec.obs_shape) != 3 or spec.obs_shape[1] < height or spec.obs_shape[2] < width:
        raise ValueError(
            f"network {network} needs images of at least {height}x{width} pixels, but {spec.name} gives "
            f"observations of shape {spec.obs_shape}; choose network=mlp for vectors or network=minatar for "
            "small images"
        )
    return spec.obs_shape[0]


class EnsembleLinear(nn.Module):
    """H linear layers in one batched product: [H, M, in] -> [H, M, out]."""

    def __init__(self, num_members: int, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        bound = num_inputs**-0.5
        self.weight = nn.Parameter(torch.empty(num_members, num_inputs, num_outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_members, 1, num_outputs).uniform_(-bound, bound))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, inputs, self.weight)


def _scaled_noise(*shape: int, like: Tensor) -> Tensor:
    """Draw f(x) = sign(x) sqrt(|x|), x normal, from torch's global generator, which checkpoints hold."""
    noise = torch.randn(shape, dtype=like.dtype, device=like.device)
    return noise.sign() * noise.abs().sqrt()


class EnsembleNorm(nn.Module):
    """H layer normalisations, each with its own scale and shift: [H, M, N] -> [H, M, N]."""

    def __init__(self, num_members: int, num_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_members, 1, num_features))
        self.bias = nn.Parameter(torch.zeros(num_members, 1, num_features))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.addcmul(self.bias, F.layer_norm(inputs, inputs.shape[-1:]), self.weight)


class NoisyLinear(nn.Linear):
    """y = (W + S * f_out f_in^T) x + b + s * f_out, factorised noise (Fortunato et al. 2018, eq. 10-11).

    S, s start at sigma / sqrt(inputs). Noise is drawn anew at every call in training mode and shared by its rows, so
    each acting step, and each network of an update, has its own; in eval mode there is none.
    """

    def __init__(self, num_inputs: int, num_outputs: int, sigma: float) -> None:
        super().__init__(num_inputs, num_outputs)
        self.weight_sigma = nn.Parameter(torch.full_like(self.weight, sigma * num_inputs**-0.5))
        self.bias_sigma = nn.Parameter(torch.full_like(self.bias, sigma * num_inputs**-0.5))

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return super().forward(inputs)
        before = _scaled_noise(self.in_features, like=inputs)
        after = _scaled_noise(self.out_features, like=inputs)
        weight = torch.addcmul(self.weight, self.weight_sigma, torch.outer(after, before))
        return F.linear(inputs, weight, torch.addcmul(self.bias, self.bias_sigma, after))


class NoisyEnsembleLinear(EnsembleLinear):
    """H noisy linear layers in one batched product, each with its own noise: [H, M, in] -> [H, M, out]."""

    def __init__(self, num_members: int, num_inputs: int, num_outputs: int, sigma: float) -> None:
        super().__init__(num_members, num_inputs, num_outputs)
        self.weight_sigma = nn.Parameter(torch.full_like(self.weight, sigma * num_inputs**-0.5))
        self.bias_sigma = nn.Parameter(torch.full_like(self.bias, sigma * num_inputs**-0.5))

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return super().forward(inputs)
        members, num_inputs, num_outputs = self.weight.shape
        before = _scaled_noise(members, num_inputs, 1, like=inputs)
        after = _scaled_noise(members, 1, num_outputs, like=inputs)
        weight = torch.addcmul(self.weight, self.weight_sigma, before * after)
        return torch.baddbmm(torch.addcmul(self.bias, self.bias_sigma, after), inputs, weight)


def is_noisy(network: Module) -> bool:
    """Tell whether a network's values are drawn at random."""
    return any(isinstance(layer, NoisyLinear | NoisyEnsembleLinear) for layer in network.modules())


class ChannelNorm(nn.GroupNorm):
    """LayerNorm over all of an image's features [M, C, H, W], scaled by channel.

    `vmap` cannot tell group_norm a memory format other than the plain one: where it runs this, set `plain`.
    """

    plain = False

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs.contiguous() if self.plain else inputs)


def channel_norm(layer_norm: bool, channels: int) -> nn.Module:
    """Return `ChannelNorm`, or nothing."""
    return ChannelNorm(channels) if layer_norm else nn.Identity()


@dataclass(frozen=True)
class HeadsConfig:
    """How features become values and a policy; raises ValueError for widths below 1 and a negative `noisy`."""

    hidden: int
    policy_hidden: int
    dueling: bool
    layer_norm: bool
    noisy: float
    policy_gradient_to_torso: bool

    def __post_init__(self) -> None:
        for name in ("hidden", "policy_hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, but is {getattr(self, name)}.")
        if not self.noisy >= 0:
            raise ValueError(f"noisy must not be negative, but is {self.noisy}: 0.5 is usual, 0 turns it off.")


class Heads(nn.Module):
    """One hidden layer for each of H critics and for the policy, then their outputs.

    With `dueling` (Wang et al. 2016) an action's logits are V + A - mean A, bin by bin. With
    `policy_gradient_to_torso` off, the policy reads the features but does not shape them (Reactor).
    With `noisy` > 0 the critics' layers are noisy linear ones that start with this sigma; the policy's never are.
    Where no policy is learned there are no layers for one.
    """

    __call__: Callable[..., NetworkOutput]  # of other modules it is Callable[..., Any]

    def __init__(self, config: HeadsConfig, num_features: int, num_actions: int, outputs: Outputs) -> None:
        super().__init__()
        num_critics, num_bins = outputs.num_critics, len(outputs.initial_logits)
        self.config, self.outputs, self.num_actions = config, outputs, num_actions
        linear: Callable[..., nn.Linear] = nn.Linear
        ensemble: Callable[..., EnsembleLinear] = EnsembleLinear
        if config.noisy:
            linear = partial(NoisyLinear, sigma=config.noisy)
            ensemble = partial(NoisyEnsembleLinear, sigma=config.noisy)
        self.q_hidden = linear(num_features, num_critics * config.hidden)
        self.q_norm = EnsembleNorm(num_critics, config.hidden) if config.layer_norm else nn.Identity()
        rows = num_actions + 1 if config.dueling else num_actions
        self.q_out = ensemble(num_critics, config.hidden, rows * num_bins)
        with torch.no_grad():  # values start where the critic wants them
            by_action = self.q_out.bias.view(num_critics, rows, num_bins)
            (by_action[:, :1] if config.dueling else by_action).add_(outputs.initial_logits)
        if outputs.policy:
            self.policy_hidden = nn.Linear(num_features, config.policy_hidden)
            self.policy_norm = nn.LayerNorm(config.policy_hidden) if config.layer_norm else nn.Identity()
            self.policy_out = nn.Linear(config.policy_hidden, num_actions)
            with torch.no_grad():  # and the policy nearly uniform
                self.policy_out.weight.mul_(0.001)
                self.policy_out.bias.zero_()

    def forward(self, features: Tensor) -> NetworkOutput:
        hidden = self.q_hidden(features).unflatten(1, (self.outputs.num_critics, -1)).transpose(0, 1)
        hidden = F.relu(self.q_norm(hidden), inplace=True)
        # Values that differ by less than a type of 8 bits can tell would tie: outputs are computed in the parameters'.
        with full_precision(features.device.type):
            q_logits = self.q_out(hidden.to(self.q_out.weight.dtype))
        q_logits = q_logits.unflatten(2, (-1, len(self.outputs.initial_logits)))
        if self.config.dueling:
            state, advantage = q_logits[..., :1, :], q_logits[..., 1:, :]
            q_logits = state + advantage - advantage.mean(2, keepdim=True)
        if not self.outputs.policy:
            return NetworkOutput(q_logits, features.new_zeros(len(features), self.num_actions))
        seen = features if self.config.policy_gradient_to_torso else features.detach()
        hidden = F.relu(self.policy_norm(self.policy_hidden(seen)), inplace=True)
        with full_precision(features.device.type):
            policy_logits = self.policy_out(hidden.to(self.policy_out.weight.dtype))
        return NetworkOutput(q_logits, policy_logits)
