"""MinAtar against the package's own Environment, and what the adapter adds."""

import importlib.util
import logging

import numpy as np
import pytest
from env_factory import make

from offpol.errors import ConfigError

pytest.importorskip("minatar", reason="extra minatar")

GAMES = ["breakout", "asterix", "freeway", "seaquest", "space_invaders"]


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("ramping", [True, False])
def test_plays_the_package_s_game_episode_by_episode(game, ramping):
    """The package never clears the sticky action between episodes; an episode here follows from its seed alone."""
    from minatar import Environment

    env = make(
        "minatar", f"env.game={game}", f"env.difficulty_ramping={ramping}", "env.minimal_actions=false",
        "env.time_limit_agent_steps=100000", num_envs=1,
    )  # fmt: skip
    seeds = []
    single = env._envs[0]
    original = single.reset
    single.reset = lambda *, seed: seeds.append(seed) or original(seed=seed)
    theirs = Environment(game, sticky_action_prob=0.1, difficulty_ramping=ramping)
    rng = np.random.default_rng(0)
    obs, begins = env.reset(), True
    for _ in range(700):
        if begins:
            theirs.seed(seeds[-1])
            theirs.reset()
            theirs.last_action = 0
        np.testing.assert_array_equal(obs[0], theirs.state().transpose(2, 0, 1))
        action = rng.integers(6)
        step = env.step(np.array([action]))
        if begins := not step.valid[0]:
            obs = step.obs
            continue
        reward, terminal = theirs.act(int(action))
        assert (step.raw_reward[0], step.terminated[0], step.truncated[0]) == (reward, terminal, False)
        obs = step.obs
    assert len(seeds) > 1 or game == "freeway"  # freeway lasts 2500 steps


@pytest.mark.parametrize(
    ("game", "minimal"), [("breakout", 3), ("asterix", 5), ("freeway", 3), ("seaquest", 6), ("space_invaders", 4)]
)
def test_minimal_actions(game, minimal):
    assert make("minatar", f"env.game={game}").spec.num_actions == minimal
    full = make("minatar", f"env.game={game}", "env.minimal_actions=false")
    assert full.spec.num_actions == 6
    env = make("minatar", f"env.game={game}", num_envs=1)
    assert env._envs[0].actions == env._envs[0].game.minimal_action_set()


def test_the_time_limit_truncates():
    env = make("minatar", "env.game=freeway", "env.time_limit_agent_steps=7")
    env.reset()
    steps = [env.step(np.zeros(2, dtype=int)) for _ in range(16)]
    assert [step.truncated[0] for step in steps] == [t in (6, 14) for t in range(16)]
    assert not any(step.terminated.any() for step in steps)
    assert [step.valid[0] for step in steps] == [t not in (7, 15) for t in range(16)]


def test_a_missing_package_is_named_with_the_way_out(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "minatar" else real(name))
    with pytest.raises(ConfigError, match=r"MinAtar is not installed: pip install .*\[minatar\]"):
        make("minatar")


def test_building_leaves_logging_alone():
    before = list(logging.getLogger().handlers)
    make("minatar")
    assert logging.getLogger().handlers == before


@pytest.mark.parametrize(("key", "value"), [("sticky_probability", 1.0), ("time_limit_agent_steps", 0)])
def test_impossible_values_are_refused(key, value):
    with pytest.raises(ValueError, match=key):
        make("minatar", f"env.{key}={value}")


def test_pictures_paint_each_channel_in_its_own_color():
    env = make("minatar")
    env.reset()
    for _ in range(4):
        obs = env.step(np.ones(2, dtype=int)).obs[0]
    picture = env.render()
    cells = picture[8::16, 8::16]
    assert picture.shape == (160, 160, 3)
    np.testing.assert_array_equal(cells.max(-1) > 0, obs.any(0))
    on_top = obs.argmax(0)[obs.any(0)]
    colors = [tuple(map(int, color)) for color in cells[obs.any(0)]]
    assert len(set(colors)) == len(set(on_top)) == len(set(zip(on_top, colors, strict=True))) == 4
