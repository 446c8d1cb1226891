"""One number per action, learned by regression."""

from typing import Literal

import torch
from torch import Tensor, nn


class Scalar(nn.Module):
    """Q is the single output; the loss is half the squared error, or Huber's with threshold `delta`.

    Both have the gradient Q - y near the target; Huber's is held at +-delta beyond it (Mnih et al. 2015 with
    delta 1), where its value is delta (|Q - y| - delta / 2).
    """

    num_bins = 1

    def __init__(self, error: Literal["huber", "mse"], delta: float, num_critics: int) -> None:
        super().__init__()
        if not delta > 0:
            raise ValueError(f"delta must be positive, but is {delta}: 1 is usual.")
        if num_critics < 1:
            raise ValueError(f"num_critics must be at least 1, but is {num_critics}: 1 means no ensemble.")
        self.error, self.delta, self.num_critics = error, delta, num_critics

    def value(self, logits: Tensor) -> Tensor:
        """Decode logits [..., 1] to values [...], in float32 or better."""
        return logits.squeeze(-1).to(torch.promote_types(logits.dtype, torch.float32))

    def loss(self, logits: Tensor, returns: Tensor) -> Tensor:
        """Return the error [...] of logits [..., 1] against targets [...]."""
        gap = self.value(logits) - returns.detach()
        if self.error == "mse":
            return 0.5 * gap.square()
        bounded = gap.clamp(-self.delta, self.delta)
        return bounded * (gap - 0.5 * bounded)

    def outside(self, returns: Tensor) -> Tensor:
        """Tell which targets [...] cannot be represented: none."""
        return torch.zeros_like(returns, dtype=torch.bool)
