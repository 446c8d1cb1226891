"""What every env in conf/env must do, found by globbing."""

import io

import numpy as np
import pytest
import torch
from env_factory import ENVS, make

from offpol.contracts.envs import check_env

STEPS = 260  # long enough for games of random play to end in every env


@pytest.fixture(scope="module", params=ENVS)
def played(request):
    """A name, its env, and what random play gave: the first observation, actions, and steps as they came."""
    env = make(request.param)
    rng = np.random.default_rng(1)
    first = env.reset()
    actions = rng.integers(env.spec.num_actions, size=(STEPS, env.spec.num_envs))
    steps, copies = [], []
    for action in actions:
        steps.append(env.step(action))
        copies.append([field.copy() for field in steps[-1]])
    yield request.param, env, first, actions, steps, copies
    env.close()


@pytest.mark.parametrize("name", ENVS)
def test_it_passes_what_envs_from_outside_are_asked(name):
    check_env(make(name, num_envs=1))


def assert_same(ours, theirs):
    for name, a, b in zip(ours._fields, ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


def test_shapes_and_types(played):
    _, env, first, _, steps, _ = played
    wanted = torch.empty(0, dtype=env.spec.dtype).numpy().dtype
    per_env = (env.spec.num_envs,)
    assert first.shape == per_env + env.spec.obs_shape
    for step in steps:
        assert step.obs.shape == first.shape
        assert step.obs.dtype == first.dtype == wanted
        assert step.reward.dtype == np.float32
        assert step.raw_reward.dtype == np.float64
        for flag in (step.terminated, step.truncated, step.valid, step.game_over):
            assert flag.dtype == bool
        assert all(field.shape == per_env for field in step[1:])


def test_the_row_after_a_game_is_the_only_invalid_one(played):
    _, env, _, _, steps, _ = played
    was_over = np.zeros(env.spec.num_envs, dtype=bool)
    for step in steps:
        np.testing.assert_array_equal(step.valid, ~was_over)
        begins = ~step.valid
        for field in (step.reward, step.raw_reward, step.terminated, step.truncated, step.game_over):
            assert not field[begins].any()
        was_over = step.game_over
        assert (~step.game_over | step.terminated | step.truncated).all()
    assert sum(step.game_over.sum() for step in steps) >= 2, "no game ended: the test has seen nothing"


def test_returned_arrays_are_never_written_again(played):
    _, _, _, _, steps, copies = played
    for step, copy in zip(steps, copies, strict=True):
        assert_same(step, copy)


def test_writing_into_returned_arrays_does_not_reach_the_env(played):
    name, _, first, actions, steps, _ = played
    env = make(name)
    obs = env.reset()
    np.testing.assert_array_equal(obs, first)
    obs[...] = 1
    for action, wanted in zip(actions[:60], steps, strict=False):
        step = env.step(action)
        assert_same(step, wanted)
        for field in step:
            field[...] = 1
    other = make(name)
    other.load_state_dict(env.state_dict())  # the checksum is not of what the caller wrote
    env.close()
    other.close()


def test_reset_starts_the_same_games_again_and_seeds_matter(played):
    name, env, first, actions, steps, _ = played
    env = make(name)
    env.reset()
    env.step(actions[0])
    np.testing.assert_array_equal(env.reset(), first)
    for action, wanted in zip(actions[:100], steps, strict=False):
        assert_same(env.step(action), wanted)
    env.close()
    other = make(name, seed=1)
    rows = [other.reset()] + [other.step(action).obs for action in actions[:60]]
    theirs = [first] + [step.obs for step in steps]
    assert any((a != b).any() for a, b in zip(rows, theirs, strict=False))
    other.close()


def test_starting_over_forgets_that_a_game_was_over(played):
    name, _, _, actions, steps, _ = played
    env = make(name)
    env.reset()
    at_the_start = env.state_dict()
    ends = next(t for t, step in enumerate(steps) if step.game_over.any())
    for restart in (env.reset, lambda: env.load_state_dict(at_the_start)):
        for action in actions[: ends + 1]:
            env.step(action)
        restart()
        assert_same(env.step(actions[0]), steps[0])
        env.reset()
    env.close()


def test_actions_that_do_not_fit_are_refused_and_change_nothing(played):
    name, _, _, actions, steps, _ = played
    env = make(name)
    env.reset()
    num_actions = env.spec.num_actions
    for wrong in ([0, num_actions], [-1, 0], [0], [0, 0, 0], [0.0, 0.0]):
        with pytest.raises(ValueError, match="actions"):
            env.step(np.array(wrong))
    assert_same(env.step(actions[0]), steps[0])
    env.close()


def test_goes_on_exactly_from_a_saved_state(played):
    name, _, _, actions, steps, _ = played
    env = make(name)
    env.reset()
    for action in actions[:200]:
        env.step(action)
    buffer = io.BytesIO()
    torch.save(env.state_dict(), buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    for action, wanted in zip(actions[200:230], steps[200:], strict=False):
        assert_same(env.step(action), wanted)  # saving changed nothing
    fresh = make(name)
    for target in (fresh, env):  # into an env never started, and into one that has gone on
        target.load_state_dict(state)
        for action, wanted in zip(actions[200:], steps[200:], strict=True):
            assert_same(target.step(action), wanted)
        target.close()


def test_renders_color_pictures(played):
    name, env, *_ = played
    if name == "gymnasium":
        pytest.importorskip("pygame", reason="CartPole paints with pygame")
        env = make(name, "env.render=true")
        env.reset()
    picture = env.render()
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert picture.min() < picture.max()
