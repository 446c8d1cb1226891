"""Random rows for policy losses."""

import torch

from offpol.types import PolicyInputs


def random_inputs(rows: int = 40, actions: int = 5, q_scale: float = 1.0, seed: int = 0) -> PolicyInputs:
    """Rows of random values in the default dtype; only the logits ask for a gradient, one in five is invalid."""
    g = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    return PolicyInputs(
        logits=randn(rows, actions).requires_grad_(), pi=torch.softmax(randn(rows, actions), -1),
        q_values=q_scale * randn(rows, actions), action=torch.randint(actions, (rows,), generator=g),
        log_mu=-randn(rows).abs(), returns=q_scale * randn(rows), advantage=q_scale * randn(rows),
        valid=torch.rand(rows, generator=g) < 0.8,
    )  # fmt: skip
