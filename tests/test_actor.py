"""What an actor logs is what happened: actions, their exact probabilities, rewards, scores."""

import numpy as np
import pytest
import torch

from offpol.actor import Actor
from offpol.behavior.epsilon_greedy import EpsilonGreedy
from offpol.env.chain import Chain
from offpol.schedule import Schedule

LENGTH, ENVS = 6, 3


def make_actor(epsilon: Schedule | None = None, seed: int = 0, envs: int = ENVS) -> Actor:
    env = Chain(LENGTH, 0.1, 0.1, 1.0, 12, num_envs=envs, seed=seed)
    weights = torch.randn(LENGTH, 2, generator=torch.Generator().manual_seed(3))

    def values(obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        q = obs @ weights
        return q, torch.softmax(q, -1)

    return Actor(env, EpsilonGreedy("q", epsilon or Schedule(0.4, 0.4, 1, 0), 0.0), values, seed=seed)


def test_rows_chain_observations_and_log_the_probability_of_the_action_taken() -> None:
    actor = make_actor()
    for version in range(60):
        before = actor.obs.copy()
        decision = actor.act(0, version)
        q, _ = actor.values(torch.from_numpy(before))
        rows, _ = actor.step(decision)
        np.testing.assert_array_equal(rows.obs, before)
        greedy = rows.action == q.argmax(1).numpy()
        np.testing.assert_allclose(np.exp(rows.behavior_log_prob), np.where(greedy, 0.8, 0.2), rtol=1e-6)
        assert (rows.policy_version == version).all()


def test_warm_up_steps_log_their_uniform_probability() -> None:
    actor = make_actor(Schedule(1.0, 0.0, 10, 0))
    assert np.exp(actor.act(0, 0).log_prob).tolist() == [0.5] * ENVS
    np.testing.assert_allclose(np.exp(actor.act(10, 0).log_prob), 1.0)


def test_a_schedule_may_wait_until_learning_starts() -> None:
    held = Schedule(1.0, 0.0, 10, 20)
    assert [held(steps) for steps in (0, 20, 25, 30, 99)] == [1.0, 1.0, 0.5, 0.0, 0.0]
    at_once = Schedule(1.0, 0.0, 0, 5)
    assert [at_once(steps) for steps in (0, 4, 5)] == [1.0, 1.0, 0.0]
    with pytest.raises(ValueError, match="from_agent_steps must be 0"):
        Schedule(1.0, 0.0, 10, -1)


def test_stored_rows_survive_later_steps() -> None:
    actor = make_actor()
    rows, _ = actor.step(actor.act(0, 0))
    copies = [field.copy() for field in rows]
    for _ in range(30):
        actor.step(actor.act(0, 0))
    for field, copy in zip(rows, copies, strict=True):
        np.testing.assert_array_equal(field, copy)


def test_episodes_sum_raw_rewards_of_valid_steps_only() -> None:
    actor = make_actor(envs=2)
    returns, lengths, seen = np.zeros(2), np.zeros(2, dtype=int), 0
    for _ in range(200):
        rows, episodes = actor.step(actor.act(0, 0))
        returns += rows.reward * rows.valid
        lengths += rows.valid
        for episode in episodes:
            np.testing.assert_allclose(episode.episode_return, returns[episode.stream], rtol=1e-5)
            assert episode.length_agent_steps == lengths[episode.stream] <= 12
            returns[episode.stream] = lengths[episode.stream] = 0
            seen += 1
    assert seen > 20


def test_state_round_trip_goes_on_bit_for_bit() -> None:
    whole = make_actor()
    for _ in range(25):
        whole.step(whole.act(0, 0))
    other = make_actor(seed=9)
    other.step(other.act(0, 0))
    other.env = make_actor().env
    other.load_state_dict(whole.state_dict())
    for _ in range(25):
        (mine, my_episodes), (theirs, their_episodes) = whole.step(whole.act(0, 0)), other.step(other.act(0, 0))
        for field, twin in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(field, twin)
        assert my_episodes == their_episodes
