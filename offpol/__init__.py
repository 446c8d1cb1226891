"""Off-policy, replay-based reinforcement learning.

From Python, as the command `offpol` does it:

    cfg = offpol.compose("task=chain", "trace=n_step")
    score = offpol.train(cfg, "runs/mine")
    env, agent = offpol.load("runs/mine")
    batch = offpol.load_replay("runs/mine").sample(32)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offpol.api import compose, load, load_replay, train

__all__ = ["compose", "load", "load_replay", "train"]


def __getattr__(name: str) -> Any:
    """Import what is asked for: commands that need none of it start sooner."""
    if name in __all__:
        from offpol import api

        return getattr(api, name)
    raise AttributeError(f"offpol has no {name}")
