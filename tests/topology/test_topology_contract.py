"""What every topology in conf/topology promises, found by globbing."""

import json
import sys
from pathlib import Path

import pytest
import torch
from command import TINY, call
from test_data_parallel import run

from offpol import main
from offpol.config import conf_dir
from offpol.record import checkpoint

SLOW = {"ray_workers": [pytest.mark.slow, pytest.mark.timeout(600)]}  # processes are started
FILES = sorted((conf_dir() / "topology").glob("*.yaml"))
every_topology = pytest.mark.parametrize(
    "topology", [pytest.param(file.stem, marks=SLOW.get(file.stem, ())) for file in FILES]
)
OVER = 1600  # agent steps, four times those of the run, as its steps are four frames
EPSILON = f"behavior.epsilon={{start: 1.0, end: 0.0, over_agent_steps: {OVER}, from_agent_steps: 0}}"


@every_topology
def test_a_run_acts_stores_and_learns_by_agent_steps(topology: str, tmp_path: Path, monkeypatch, capfd) -> None:
    """The replay ratio and epsilon count decisions, never frames: what was logged of each action tells epsilon."""
    monkeypatch.chdir(tmp_path)
    job = (*TINY, f"topology={topology}", "env._target_=many_frames.ManyFrames", EPSILON)
    job += ("run.eval_episodes=0", "hydra.run.dir=run")
    if topology == "ray_workers":  # in a process that has not imported Ray yet, which reads its settings then
        pytest.importorskip("ray")
        done = run(tmp_path, sys.executable, "-m", "offpol.main", *job)
        assert done.returncode == 0, done.stderr
    else:
        outcome = call(main.main, job, monkeypatch, capfd)
        assert outcome.code == 0, outcome.err
    metrics = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert 400 <= metrics[-1]["agent_steps"] < 404
    for row in metrics:
        assert row["frames"] == 4 * row["agent_steps"]
        assert row["updates"] == max(0, (row["agent_steps"] - 60) // 4)
    segments = checkpoint.load_newest(Path("run/checkpoints")).state["replay"]["rows"]
    rows = {name: torch.cat([segment[name] for segment in segments]) for name in ("valid", "behavior_log_prob")}
    assert rows["valid"].sum() == metrics[-1]["agent_steps"]
    likely = rows["behavior_log_prob"][rows["valid"]].exp()
    epsilon = 2 * torch.minimum(likely, 1 - likely)  # of two actions, one is taken by half of it
    counted = (1 - epsilon) * OVER
    assert 100 < counted.max() < metrics[-1]["agent_steps"]
