"""Combinations that mean nothing are refused from the command line, at start, in a sentence with the way out."""

from pathlib import Path

import pytest
from command import call

from offpol.main import main

COMBINATIONS = {
    "network.heads.noisy=0.5": "Retrace compares pi with the logged probability, which noisy layers do not have",
    "trace=one_step policy=policy_gradient network.heads.noisy=0.5": "PolicyGradient compares pi with the logged",
    "critic=categorical trace=vtrace": "Categorical learns distributions, but the trace VTrace is no mixture",
    "critic=quantile trace=watkins": "Quantile learns distributions, but the trace Watkins is no mixture",
    "trace=gae": "GAE corrects nothing, but replayed data is off-policy",
    "trace=puffer policy=policy_gradient": "Puffer's advantage is multiplied by pi/mu already",
    "trace=puffer policy=cmpo policy.gradient=1.0": "use policy.correction=none (policy_gradient), policy.gradient=0",
    "experiment=rainbow topology=threads": "noisy layers need topology=sync",
    "experiment=bc": "name the folder of a finished run or minari:ID",
    "critic.num_critics=2 critic.minimum_of=3": "minimum_of must lie between 0 (the mean) and num_critics (2)",
    "policy.advantage=returns": "returns exist for one action only",
    "policy.actions=logged": "temperature.control 'entropy' needs actions 'all' and weight 'exp'",
    "agent.train_positions=9": "train_positions must lie between 1 and the window (5)",
    "agent.annealing.over_updates=9 agent.annealing.window_end=6": "window_end must lie between train_positions (1)",
    "agent.batch_size=100000": "raise replay.capacity or lower the batch",
}


@pytest.mark.parametrize("words", COMBINATIONS)
def test_refused(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    result = call(main, ("task=chain", *words.split(), f"hydra.run.dir={tmp_path / 'run'}"), monkeypatch, capfd)
    assert result.code == 2
    assert COMBINATIONS[words] in result.err
    assert "Traceback" not in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
