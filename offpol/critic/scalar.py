"""One number per action, learned by regression."""

from typing import Literal

import torch
from torch import Tensor

from offpol.critic_base import CriticBase
from offpol.value_transform import Transform


class Scalar(CriticBase):
    """Q is the single output; the loss is half the squared error, or Huber's with threshold `delta`.

    Both have the gradient Q - y near the target; Huber's is held at +-delta beyond it (Mnih et al. 2015 with
    delta 1), where its value is delta (|Q - y| - delta / 2). With a `transform` h, the output is h(Q) and the
    error is taken there (R2D2, Kapturowski et al. 2019).
    """

    def __init__(
        self, error: Literal["huber", "mse"], delta: float, transform: Transform,
        num_critics: int, minimum_of: int,
        separate_networks: bool,
    ) -> None:  # fmt: skip
        super().__init__(1, num_critics, minimum_of, separate_networks, transform)
        if not delta > 0:
            raise ValueError(f"delta must be positive, but is {delta}: 1 is usual.")
        self.error, self.delta = error, delta

    def value(self, logits: Tensor) -> Tensor:
        """Decode logits [..., 1] to values [...], in float32 or better."""
        return self.decode(logits.squeeze(-1).to(torch.promote_types(logits.dtype, torch.float32)))

    def loss(self, logits: Tensor, returns: Tensor) -> Tensor:
        """Return the error [...] of logits [..., 1] against targets [...]."""
        gap = logits.squeeze(-1) - self.encode(returns.detach())
        if self.error == "mse":
            return 0.5 * gap.square()
        bounded = gap.clamp(-self.delta, self.delta)
        return bounded * (gap - 0.5 * bounded)
