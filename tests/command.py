"""Runs the commands inside the test's process: importing torch anew for each would take minutes."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

TINY = (
    "env=chain", "network=mlp", "network.widths=[8]", "network.heads.hidden=8", "network.heads.policy_hidden=8",
    "replay.capacity=2000", "critic.num_bins=11", "agent.batch_size=4", "run.measure_every_updates=3",
    "run.agent_steps=400", "run.num_envs=4", "run.learning_starts_agent_steps=60", "run.replay_ratio=0.25",
    "run.log_every_agent_steps=50", "run.checkpoint_every_agent_steps=200", "run.eval_episodes=3",
    "run.torch_threads=1",
)  # fmt: skip


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


def call(
    main: Callable[[], None], arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> Outcome:
    """Run a command's entry point with these arguments."""
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    capfd.readouterr()
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    captured = capfd.readouterr()
    return Outcome(code, captured.out, captured.err)


def run_folder(parent: Path) -> Path:
    """Return the only run below a folder."""
    (info,) = parent.rglob("info.json")
    return info.parent
