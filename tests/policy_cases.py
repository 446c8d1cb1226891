"""Random rows for policy losses."""

import torch

from offpol.types import PolicyInputs


def random_inputs(rows: int = 40, actions: int = 5, q_scale: float = 1.0, seed: int = 0) -> PolicyInputs:
    """Rows of random values in the default dtype; only the logits ask for a gradient, one in five is invalid."""
    g = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    valid = torch.rand(rows, generator=g) < 0.8
    return PolicyInputs(
        logits=randn(rows, actions).requires_grad_(), pi=torch.softmax(randn(rows, actions), -1),
        q_values=q_scale * randn(rows, actions), action=torch.randint(actions, (rows,), generator=g),
        log_mu=-randn(rows).abs(), returns=q_scale * randn(rows), advantage=q_scale * randn(rows),
        share=valid / valid.sum(),
    )  # fmt: skip


def twofold(inputs: PolicyInputs) -> PolicyInputs:
    """Every row twice, without gradients; together they count as much as before."""
    doubled = {name: torch.cat([tensor, tensor]).detach() for name, tensor in vars(inputs).items()}
    return PolicyInputs(**doubled | {"share": doubled["share"] / 2})
