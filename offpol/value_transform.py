"""Squash large values so that one support or step size serves games of any score."""

from typing import Literal

import torch
from torch import Tensor

Transform = Literal["none", "signed_hyperbolic"]
_EPSILON = 1e-3


def squash(x: Tensor) -> Tensor:
    """h(x) = sign(x) (sqrt(|x| + 1) - 1) + 0.001 x (Pohlen et al. 2018; R2D2), elementwise.

    sqrt(|x| + 1) - 1 is computed as |x| / (sqrt(|x| + 1) + 1), which loses nothing for small x.
    """
    return x / ((x.abs() + 1.0).sqrt() + 1.0) + _EPSILON * x


def unsquash(y: Tensor) -> Tensor:
    """h^-1(y), elementwise, exact to a few units in the last place.

    With u = sqrt(|x| + 1) - 1, |y| = u + epsilon u (u + 2): u is the positive root of a quadratic, taken in the form
    without a difference (the usual closed form loses four digits in float32), and |x| = u (u + 2).
    """
    slope = 1.0 + 2.0 * _EPSILON
    u = 2.0 * y.abs() / (slope + (slope * slope + 4.0 * _EPSILON * y.abs()).sqrt())
    return torch.sign(y) * u * (u + 2.0)
