"""What every replay in conf/replay promises, found by globbing."""

import inspect

import numpy as np
import pytest
import torch
import yaml
from naive_replay import NaiveEnv, NaiveReplay, as_rows, spec_of

from offpol.agent import discounts
from offpol.config import build, conf_dir
from offpol.types import Replay

FILES = sorted((conf_dir() / "replay").glob("*.yaml"))
every_replay = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def replay_of(file, stack=2, window=2, seed=0, **changes) -> Replay:
    node = yaml.safe_load(file.read_text()) | {"capacity": 60} | changes
    if "offline_share" in node:  # nothing but what is added here
        node["offline_share"] = {"start": 0.0, "end": 0.0, "over_agent_steps": 0, "from_agent_steps": 0}
    return build(node, spec=spec_of(3, stack), window=window, seed=seed)


def played(replay: Replay, rounds: int, stack=2, window=2) -> NaiveReplay:
    naive, rng = NaiveReplay(spec_of(3, stack), window, 20), np.random.default_rng(0)
    envs = [NaiveEnv(naive.spec, [1, 7, 30], rng) for _ in range(3)]
    for _ in range(rounds):
        rows = [env.step() for env in envs]
        replay.add(as_rows(rows))
        naive.add(rows, 0)
    return naive


@every_replay
@pytest.mark.parametrize(("stack", "window"), [(1, 1), (4, 3)])
def test_windows_are_what_was_added(file, stack, window):
    replay = replay_of(file, stack, window)
    with pytest.raises(RuntimeError, match=f"at least {window + 1} more rows"):
        replay.sample(1)
    naive = played(replay, 50, stack, window)
    assert len(replay) == len(naive.drawable())
    batch = replay.sample(64)
    naive.check(batch)
    assert batch.batch_size == torch.Size([64])
    for name, kind in {"action": torch.int64, "policy_version": torch.int64, "reward": torch.float32,
                       "behavior_log_prob": torch.float32, "terminated": torch.bool, "truncated": torch.bool,
                       "valid": torch.bool, "valid_next": torch.bool}.items():  # fmt: skip
        assert getattr(batch, name).shape == (64, window)
        assert getattr(batch, name).dtype == kind
    for name, kind in {"index": torch.int64, "generation": torch.int64, "probability": torch.float32,
                       "replay_weight": torch.float32}.items():  # fmt: skip
        assert getattr(batch, name).shape == (64,)
        assert getattr(batch, name).dtype == kind
    assert ((batch.replay_weight > 0) & (batch.replay_weight <= 1)).all()


@every_replay
def test_what_terminated_is_not_bootstrapped_from_though_it_was_truncated_too(file):
    """As where the time limit is reached in the very step that ends the episode."""
    replay = replay_of(file)
    played(replay, 50)
    batch = replay.sample(64)
    discount = discounts(batch, 0.9)
    for other in (batch.truncated, ~batch.truncated):
        assert (batch.terminated & other).any()
        assert (discount[batch.terminated & other] == 0).all()
    assert (discount[~batch.terminated] == 0.9).all()
    assert (batch.truncated & ~batch.terminated).any()


@every_replay
def test_the_seed_decides_the_draws(file):
    draws = []
    for seed in (3, 3, 4):
        replay = replay_of(file, seed=seed)
        played(replay, 50)
        draws.append(replay.sample(64).index)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@every_replay
def test_states_of_other_envs_are_refused(file):
    replay = replay_of(file)
    played(replay, 50)
    with pytest.raises(ValueError, match="the saved run"):
        replay_of(file, stack=3, capacity=60).load_state_dict(replay.state_dict())


@every_replay
def test_constructors_have_no_second_defaults(file):
    node = yaml.safe_load(file.read_text())
    module, name = node.pop("_target_").rsplit(".", 1)
    parameters = inspect.signature(getattr(__import__(module, fromlist=[name]), name)).parameters
    given = {key for key, parameter in parameters.items() if parameter.kind != parameter.KEYWORD_ONLY}
    assert given == set(node)
    assert all(parameters[key].default is inspect.Parameter.empty for key in given)
