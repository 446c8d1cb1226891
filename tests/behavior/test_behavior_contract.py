"""Every behavior in conf/, found by globbing: exact distributions, whatever the values and the time."""

from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from offpol.actions import draw, require_distributions
from offpol.config import build, conf_dir

FILES = sorted((conf_dir() / "behavior").glob("*.yaml"))
STREAMS = 6


def values(kind: str, actions: int) -> torch.Tensor:
    """Q of the streams [S, A]: random, all alike, or of a size at which exp overflows."""
    random = torch.randn(STREAMS, actions, generator=torch.Generator().manual_seed(0))
    return {"random": random, "equal": torch.ones_like(random), "huge": 1e4 * random, "tiny": 1e-8 * random}[kind]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.parametrize("actions", [1, 2, 18])
@pytest.mark.parametrize("kind", ["random", "equal", "huge", "tiny"])
def test_what_it_answers_are_distributions(file: Path, actions: int, kind: str) -> None:
    q = values(kind, actions)
    pi = torch.softmax(q, -1)
    behavior = build(OmegaConf.load(file), first_stream=0, num_streams=STREAMS)
    for agent_steps in (0, 1, 12_345, 10**9):
        before, before_pi = q.clone(), pi.clone()
        probs = behavior.probs(q, pi, agent_steps)
        assert probs.shape == q.shape
        assert probs.dtype == torch.float32
        assert torch.equal(q, before)
        assert torch.equal(pi, before_pi)
        assert torch.equal(probs, behavior.probs(q, pi, agent_steps))
        require_distributions(probs.numpy(), file.stem, agent_steps)
        _, log_prob = draw(probs.numpy(), np.random.default_rng(0))
        assert np.isfinite(log_prob).all()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_streams_are_shared_out_among_actors(file: Path) -> None:
    """Two actors with half of the streams each do what one with all of them does."""
    node, q = OmegaConf.load(file), values("random", 4)
    pi, half = torch.softmax(q, -1), STREAMS // 2
    whole = build(node, first_stream=0, num_streams=STREAMS).probs(q, pi, 500)
    parts = [
        build(node, first_stream=first, num_streams=STREAMS).probs(
            q[first : first + half], pi[first : first + half], 500
        )
        for first in (0, half)
    ]
    assert torch.equal(whole, torch.cat(parts))
