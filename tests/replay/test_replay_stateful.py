"""Any order of add, draw, prioritize, cut, save and load, against a replay that keeps everything."""

import io
from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from naive_replay import NaiveEnv, NaiveReplay, as_rows, spec_of
from test_context_tree import estimated

from offpol.replay.prioritized import Prioritized
from offpol.schedule import Schedule


class Machine(RuleBasedStateMachine):
    """Priorities are kept beside, by stream and row number: slots are only where the replay puts them."""

    make: Callable = Prioritized

    @initialize(
        streams=st.integers(1, 3), window=st.integers(1, 3), stack=st.integers(1, 4), spare=st.integers(0, 6),
        lengths=st.lists(st.integers(1, 8), min_size=1, max_size=3), seed=st.integers(0, 99),
        mix=st.sampled_from([0, 0.3]), new_priority=st.sampled_from(["max", "neighborhood"]),
    )  # fmt: skip
    def start(self, streams, window, stack, spare, lengths, seed, mix, new_priority):
        self.rows_per_stream = window + stack + spare
        self.spec = spec_of(streams, stack)
        new_priority = new_priority if self.make is Prioritized else "max"
        self.arguments = {
            "capacity": streams * self.rows_per_stream, "alpha": 1.0, "beta": Schedule(0.5, 0.5, 1, 0),
            "epsilon": 0.125, "new_priority": new_priority, "uniform_mix": mix,
            "draws": "stratified", "normaliser": "buffer",
            "spec": self.spec, "window": window, "seed": seed,
        }  # fmt: skip
        if self.make is Prioritized:
            self.arguments |= {"storage": "memory", "directory": None}
        self.replay = self.make(**self.arguments)
        self.naive = NaiveReplay(self.spec, window, self.rows_per_stream)
        self.rng = np.random.default_rng(seed)
        self.envs = [NaiveEnv(self.spec, lengths, self.rng) for _ in range(streams)]
        self.priorities: dict[tuple[int, int], float] = {}
        self.highest, self.dropped = 1.0, 0
        self.old_batches: list = []
        self.segments: list = []
        self.since = None

    @rule(data=st.data(), times=st.integers(1, 5))
    def add(self, data, times):
        first = data.draw(st.integers(0, len(self.envs) - 1))
        last = data.draw(st.integers(first, len(self.envs) - 1))
        for _ in range(times):
            rows = [env.step() for env in self.envs[first : last + 1]]
            self.replay.add(as_rows(rows), first)
            self.naive.add(rows, first)
            drawable = set(self.naive.drawable())
            new = self.highest if self.arguments["new_priority"] == "max" else np.nan
            self.priorities = {at: self.priorities.get(at, new) for at in drawable}

    @rule(data=st.data())
    def cut(self, data):
        stream = data.draw(st.integers(0, len(self.envs) - 1))
        self.replay.cut(stream)
        self.naive.cut(stream)
        self.envs[stream].restart()

    @precondition(lambda self: self.naive.drawable())
    @rule(number=st.integers(1, 9))
    def sample(self, number):
        batch = self.replay.sample(number)
        self.naive.check(batch)
        everything = estimated(self.masses(), prior=1.125)
        masses, everything = everything[batch.index], everything[everything > 0]
        mix = self.arguments["uniform_mix"]
        share = (1 - mix) * masses / everything.sum() + mix / len(everything)
        least = (1 - mix) * everything.min() / everything.sum() + mix / len(everything)
        np.testing.assert_allclose(batch.probability, share, rtol=1e-5)
        np.testing.assert_allclose(batch.replay_weight, (share / least) ** -0.5, rtol=1e-5)
        rows = [self.naive.row_at(slot) for slot in batch.index.tolist()]
        self.old_batches = [*self.old_batches[-5:], (batch, rows)]

    @precondition(lambda self: self.old_batches)
    @rule(data=st.data())
    def prioritize(self, data):
        """Also with batches that were drawn long ago."""
        batch, rows = data.draw(st.sampled_from(self.old_batches))
        priority = self.rng.integers(-64, 64, len(rows)) / 16  # exact in float32
        dropped = self.replay.update_priorities(batch.index, batch.generation, torch.from_numpy(priority).float())
        known = [at in self.priorities for at in rows]
        assert dropped == len(rows) - sum(known)
        self.dropped += dropped
        for at, value in zip(rows, np.abs(priority), strict=True):
            if at in self.priorities:
                self.priorities[at] = float(value)
                self.highest = max(self.highest, float(value))

    @rule()
    def save_what_is_new(self):
        self.segments.append(self.replay.state_dict(self.since)["rows"][0])
        self.since = self.segments[-1]["stop"]

    @rule(incremental=st.booleans())
    def save_and_load(self, incremental):
        if incremental:
            self.save_what_is_new()
        state = self.replay.state_dict()
        if incremental:
            state["rows"] = self.segments
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        copy = self.make(**self.arguments | {"seed": 1234})
        copy.load_state_dict(torch.load(file, weights_only=True))
        if len(copy):
            assert (copy.sample(5) == self.replay.sample(5)).all()
        self.replay = copy

    @invariant()
    def sets_and_masses_agree(self):
        slots = np.arange(self.replay.ring.size)
        assert np.flatnonzero(self.replay.ring.drawable(slots)).tolist() == self.naive.slots()
        assert len(self.replay) == len(self.priorities)
        masses = self.masses()
        tree = self.replay.tree if self.make is Prioritized else self.replay.sums
        np.testing.assert_array_equal(tree.masses, masses)
        if self.arguments["new_priority"] == "max":
            assert tree.total == masses.sum()  # multiples of 1/16: exact in any order
        assert self.replay.dropped_priorities == self.dropped

    def masses(self) -> np.ndarray:
        """By slot; NaN where a window has no priority yet."""
        masses = np.zeros(self.replay.ring.size)
        for at, priority in self.priorities.items():
            masses[self.naive.slot(*at)] = priority + 0.125
        return masses

    @precondition(lambda self: not self.naive.drawable())
    @rule()
    def nothing_to_draw(self):
        with pytest.raises(RuntimeError, match="can be drawn yet"):
            self.replay.sample(1)


Machine.TestCase.settings = settings(
    max_examples=80, stateful_step_count=30, deadline=None, database=None, derandomize=True,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
TestReplay = Machine.TestCase


@pytest.mark.slow
class TestReplayLong(Machine.TestCase):
    settings = settings(Machine.TestCase.settings, max_examples=400, stateful_step_count=60, derandomize=False)
