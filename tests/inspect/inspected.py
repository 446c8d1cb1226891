"""Tiny runs to look at."""

from pathlib import Path

import pytest
from command import TINY

from offpol import main


def train(directory: Path, *more: str) -> Path:
    """Train a tiny agent on the chain into a folder; a checkpoint at half of the way and one at its end."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.argv", ["offpol", *TINY, "run.eval_episodes=0", *more, f"hydra.run.dir={directory}"])
        main.main()
    return directory
