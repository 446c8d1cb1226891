"""The chain is an oracle for others, so its own tables are checked by other means."""

import itertools

import numpy as np
import pytest
from env_factory import make

LENGTHS = [2, 3, 6]


def chain(*overrides, num_envs=1):
    return make("chain", *[f"env.{override}" for override in overrides], num_envs=num_envs)


@pytest.mark.parametrize("slip", [0.0, 0.3])
@pytest.mark.parametrize("length", LENGTHS)
def test_optimal_values_equal_the_best_of_all_policies(length, slip):
    """Evaluate each deterministic policy by solving its linear equations."""
    env = chain(f"length={length}", f"slip={slip}")
    transition, reward, terminal = env.transition_matrices()
    gamma, states = 0.9, np.arange(length)
    best = np.full(length, -np.inf)
    for policy in itertools.product(range(2), repeat=length):
        value = np.linalg.solve(np.eye(length) - gamma * transition[states, list(policy)], reward[states, list(policy)])
        best = np.maximum(best, value)
    q = env.optimal_q(gamma)
    assert q.dtype == np.float64
    np.testing.assert_allclose(q, reward + gamma * transition @ best, rtol=0, atol=1e-12)
    np.testing.assert_allclose(q[terminal], 0)


def test_values_by_hand():
    """Three states, no slip: 0 -> 1 pays 0.1, 1 -> goal pays -0.1 + 1; action 1 heads right in 0, left in 1."""
    q = chain("length=3", "slip=0.0", "interior_reward=0.1", "goal_reward=1.0").optimal_q(0.5)
    v0, v1 = 0.1 + 0.5 * 0.9, 0.9
    np.testing.assert_allclose(q, [[-0.15 + 0.5 * v0, v0], [v1, -0.15 + 0.5 * v0], [0, 0]], atol=1e-15)


def test_no_constant_policy_is_optimal_and_interior_rewards_matter():
    env = chain()
    q = env.optimal_q(0.99)[:-1]
    assert set(q.argmax(1)) == {0, 1}
    assert np.ptp(q, axis=1).min() > 0.01
    _, reward, terminal = env.transition_matrices()
    assert (reward[~terminal] != 0).all()


@pytest.mark.parametrize("slip", [0.0, 0.25])
def test_play_follows_the_tables(slip):
    env = chain("length=5", f"slip={slip}", num_envs=64)
    transition, reward, _ = env.transition_matrices()
    counts, paid = np.zeros_like(transition), np.zeros_like(reward)
    rng = np.random.default_rng(0)
    state = env.reset().argmax(1)
    for _ in range(1500):
        action = rng.integers(2, size=64)
        step = env.step(action)
        reached = step.obs.argmax(1)
        np.add.at(counts, (state[step.valid], action[step.valid], reached[step.valid]), 1)
        np.add.at(paid, (state[step.valid], action[step.valid]), step.raw_reward[step.valid])
        assert (reached[~step.valid] == 0).all()
        state = reached
    visits = counts.sum(2)
    assert visits[:-1].min() > 300
    assert visits[-1].sum() == 0
    error = np.abs(counts[:-1] / visits[:-1, :, None] - transition[:-1])
    assert (error < 5 * np.sqrt(transition[:-1] * (1 - transition[:-1]) / visits[:-1, :, None]) + 1e-12).all()
    goal_noise = 5 * np.sqrt(slip * (1 - slip) / visits[:-1])
    assert (np.abs(paid[:-1] / visits[:-1] - reward[:-1]) < goal_noise + 1e-9).all()


def test_the_goal_terminates_and_the_limit_truncates_never_both():
    env = chain("length=3", "slip=0.0", "time_limit_agent_steps=2")
    env.reset()
    right = [1, 0]  # from states 0 and 1
    steps = [env.step(np.array([action])) for action in (*right, 0, 0, 0, 0)]
    flags = [tuple(bool(flag[0]) for flag in (s.terminated, s.truncated, s.valid, s.game_over)) for s in steps]
    assert flags == [
        (False, False, True, False), (True, False, True, True),  # the goal, on the limit's very step
        (False, False, False, False),
        (False, False, True, False), (False, True, True, True),
        (False, False, False, False),
    ]  # fmt: skip
    assert [s.obs[0].argmax() for s in steps] == [1, 2, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("override", "named"), [("length=1", "length"), ("slip=1.0", "slip"), ("time_limit_agent_steps=0", "time_limit")]
)
def test_impossible_values_are_refused(override, named):
    with pytest.raises(ValueError, match=named):
        chain(override)


@pytest.mark.parametrize("gamma", [1.0, -0.1])
def test_value_iteration_needs_a_discount(gamma):
    with pytest.raises(ValueError, match="gamma"):
        chain().optimal_q(gamma)


def test_large_rewards_do_not_keep_value_iteration_running():
    small, large = chain().optimal_q(0.999), chain("goal_reward=1e9", "interior_reward=1e8").optimal_q(0.999)
    np.testing.assert_allclose(large, small * 1e9, rtol=1e-9)
