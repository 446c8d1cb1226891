"""The learner's side of every topology."""

import numpy as np
from test_agent import SPEC, make_agent
from test_run import make, rows

from offpol.learning import learn
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
