"""The learner's side of every topology."""

import numpy as np
from test_agent import SPEC, make_agent
from test_run import make, rows

from offpol.learning import cut, learn
from offpol.replay.uniform import Uniform
from offpol.types import Rows


def test_each_update_learns_from_a_batch_of_its_own(tmp_path, monkeypatch) -> None:
    """Eight are due at each step of four envs."""
    agent, replay = make_agent(), Uniform(1000, "memory", None, spec=SPEC, window=3, seed=0)
    flags, rng = np.zeros(2, bool), np.random.default_rng(0)
    for _ in range(100):
        obs, zeros = rng.normal(size=(2, 4)).astype(np.float32), np.zeros(2, np.float32)
        replay.add(Rows(obs, np.zeros(2, np.int64), zeros, flags, flags, ~flags, zeros, np.zeros(2, np.int64)))
    learned, update = [], agent.update

    def watched(batch, measure):
        learned.append(tuple(batch.index.tolist()))
        return update(batch, measure)

    monkeypatch.setattr(agent, "update", watched)
    with make(tmp_path, replay_ratio=2.0, learning_starts_agent_steps=0) as run:
        for step in (1, 2, 3):
            run.count(rows(), [])
            learn(agent, replay, run)
            assert len(set(learned)) == len(learned) == 8 * step


def test_no_window_goes_over_where_a_stream_was_cut(tmp_path) -> None:
    """The rows before and after are of two envs; those that never came are counted, and the newest of each stream."""
    replay = Uniform(200, "memory", None, spec=SPEC, window=3, seed=0)
    flags = np.zeros(2, bool)

    def add(number: int, version: int) -> None:
        for _ in range(number):
            zeros, versions = np.zeros(2, np.float32), np.full(2, version)
            replay.add(Rows(np.zeros((2, 4), np.float32), versions, zeros, flags, flags, ~flags, zeros, versions))

    add(10, version=0)
    with make(tmp_path) as run:
        cut(replay, run, [0], 5, "It was lost.")
    add(10, version=1)
    batch = replay.sample(500)
    cut_stream = batch.index < replay.ring.rows_per_stream
    goes_on = batch.valid[:, :-1] & batch.valid_next[:, :-1]
    joins = goes_on & (batch.policy_version[:, :-1] != batch.policy_version[:, 1:])
    assert not joins[cut_stream].any()
    assert joins[~cut_stream].any()
    assert run.rows_lost == 6
