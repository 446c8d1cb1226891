"""The replay on the learner's device does what `Prioritized` does, and nobody waits for it."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from command import call
from cpu_graphs import DEVICES
from hypothesis import settings
from naive_replay import NaiveEnv, as_rows, chi_square_p, spec_of
from no_waiting import no_waiting
from test_prioritized import PLAIN, expected_probability, same
from test_replay_stateful import Machine
from test_resume import JOB, assert_same_run, interrupt_at
from test_ring import FRAMES

from offpol import main
from offpol.replay.on_device import OnDevice
from offpol.replay.prioritized import Prioritized

SETTINGS = {name: value for name, value in PLAIN.items() if name not in ("storage", "directory")}
MIXES = pytest.mark.parametrize("mix", [0.0, 0.3])
NORMALISERS = pytest.mark.parametrize("normaliser", ["batch", "buffer"])


def build(streams=2, stack=2, window=2, seed=0, frame=None, **changes) -> OnDevice:
    spec = spec_of(streams, stack, *(frame or ()))
    return OnDevice(**(SETTINGS | changes), spec=spec, window=window, seed=seed, device="cpu")


def twins(streams=3, stack=2, window=2, frame=None, on="cpu", **changes) -> tuple[Prioritized, OnDevice]:
    settings, spec = PLAIN | {"capacity": 60} | changes, spec_of(streams, stack, *(frame or ()))
    device = {name: value for name, value in settings.items() if name not in ("storage", "directory")}
    host = Prioritized(**settings, spec=spec, window=window, seed=5)
    return host, OnDevice(**device, spec=spec, window=window, seed=5, device=on)


class Life:
    """The same rows, cuts, draws and late priorities for any number of replays."""

    def __init__(self, replays: list, seed: int) -> None:
        self.replays, self.rng = replays, np.random.default_rng(seed)
        spec = replays[0].ring.spec
        self.envs = [NaiveEnv(spec, [1, 3, 12], self.rng) for _ in range(spec.num_envs)]
        self.batches: list = []

    def go_on(self, rounds: int) -> None:
        for _ in range(rounds):
            first = int(self.rng.integers(len(self.envs)))
            rows = as_rows([env.step() for env in self.envs[first:]])
            for replay in self.replays:
                replay.add(rows, first)
            if self.rng.random() < 0.1:
                self.envs[first].restart()
                for replay in self.replays:
                    replay.cut(first)
            if len(self.replays[0]):
                self.draw()

    def draw(self) -> None:
        batches = [replay.sample(7) for replay in self.replays]
        self.batches.append(batches)
        late = self.batches[max(0, len(self.batches) - 1 - int(self.rng.integers(9)))]
        priority = torch.from_numpy(self.rng.integers(-64, 64, 7) / 16)
        dropped = [
            int(replay.update_priorities(batch.index, batch.generation, priority))
            for replay, batch in zip(self.replays, late, strict=True)
        ]
        assert len(set(dropped)) == 1


def masses(replay: Prioritized | OnDevice) -> np.ndarray:
    return replay.tree.masses if isinstance(replay, Prioritized) else replay.sums.masses.cpu().numpy()


@MIXES
@NORMALISERS
@pytest.mark.parametrize("draws", ["stratified", "iid"])
@pytest.mark.parametrize("on", DEVICES)
def test_it_draws_what_prioritized_draws(on, mix, normaliser, draws):
    """Priorities are multiples of 1/16 and alpha is 1, so all sums are exact: bit for bit, but for the powers."""
    replays = twins(on=on, uniform_mix=mix, normaliser=normaliser, draws=draws, alpha=1.0, epsilon=0.125)
    life = Life(list(replays), seed=1)
    life.go_on(150)
    assert len(life.batches) > 100
    for host, device in ((host, device.cpu()) for host, device in life.batches):
        for name in ("index", "generation", "obs", "action", "reward", "terminated", "truncated", "valid",
                     "valid_next", "behavior_log_prob", "policy_version", "probability"):  # fmt: skip
            assert torch.equal(getattr(host, name), getattr(device, name)), name
        torch.testing.assert_close(host.replay_weight, device.replay_weight, rtol=1e-6, atol=0)
    np.testing.assert_array_equal(*map(masses, replays))
    assert replays[0].dropped_priorities == replays[1].dropped_priorities > 20
    assert len(replays[0]) == len(replays[1])


@pytest.mark.parametrize(("stack", "window", "frame"), [
    (stack, window, frame) for stack, frames in FRAMES.items() for frame in frames for window in (1, 3)
])  # fmt: skip
def test_observations_lie_in_memory_as_those_of_the_host(stack, window, frame):
    replays = twins(stack=stack, window=window, frame=frame, alpha=0.0)
    life = Life(list(replays), seed=2)
    life.go_on(40)
    for host, device in life.batches:
        assert torch.equal(host.obs, device.obs)
        assert host.obs.stride() == device.obs.stride()


@pytest.mark.parametrize(("alpha", "mix"), [(0.6, 0), (0, 0), (0.9, 0.3)])
def test_draws_follow_the_formula(alpha, mix):
    replay = build(alpha=alpha, uniform_mix=mix, draws="iid")
    Life([replay], seed=3).go_on(60)
    slots = np.flatnonzero(replay.ring.drawable(np.arange(replay.ring.size)))
    priority = np.full(replay.ring.size, np.nan)
    priority[slots] = np.random.default_rng(0).normal(size=len(slots)) * 3
    generation = torch.from_numpy(replay.ring.generation(slots))
    assert replay.update_priorities(torch.from_numpy(slots), generation, torch.from_numpy(priority[slots])) == 0
    expected = expected_probability(priority, alpha, SETTINGS["epsilon"], mix)
    counts = np.zeros(replay.ring.size)
    for _ in range(60):
        batch = replay.sample(200)
        counts += np.bincount(batch.index, minlength=len(counts))
        np.testing.assert_allclose(batch.probability, expected[batch.index], rtol=1e-6)
    assert chi_square_p(counts, expected) > 1e-4


def test_nobody_waits_for_the_device():
    replay = build(normaliser="buffer", uniform_mix=0.3, stack=4, capacity=60)
    life = Life([replay], seed=4)
    life.go_on(20)
    rows = as_rows([env.step() for env in life.envs])
    with no_waiting():
        replay.add(rows)
        replay.cut(0)
        batch = replay.sample(16)
        replay.update_priorities(batch.index, batch.generation, torch.ones_like(batch.probability))


# ------------------------------------------------------------------------------------------- priorities


def test_of_equal_indices_the_last_counts_that_is_not_late():
    replay = build(streams=1, stack=1, alpha=1.0, capacity=20)
    Life([replay], seed=0).go_on(40)
    slot = int(replay.sample(1).index)
    now = int(replay.ring.generation(np.array([slot]))[0])
    index, generation = torch.full((4,), slot), torch.tensor([now, now, now, now - 1])
    assert replay.update_priorities(index, generation, torch.tensor([5.0, 7.0, 3.0, 9.0])) == 1
    assert masses(replay)[slot] == 3.01
    assert float(replay._largest_mass) == 7.01


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf"), 1e308])
def test_priorities_that_are_no_numbers_set_nothing_and_are_told(wrong):
    replay = build(alpha=1.0)
    Life([replay], seed=0).go_on(60)
    batch, before = replay.sample(2), masses(replay).copy()
    largest = float(replay._largest_mass)
    priority = torch.tensor([1.0, wrong], dtype=torch.float64)
    assert replay.update_priorities(batch.index, batch.generation - 1, priority) == 2  # late: nobody minds
    replay.state_dict()
    assert replay.update_priorities(batch.index, batch.generation, priority) == 0
    np.testing.assert_array_equal(masses(replay), before)
    assert float(replay._largest_mass) == largest
    with pytest.raises(ValueError, match="Priorities must be finite"):
        replay.state_dict()


@pytest.mark.parametrize("index", [-1, 40])
def test_indices_that_are_no_slots_are_refused(index):
    replay = build()
    Life([replay], seed=0).go_on(50)
    with pytest.raises(IndexError):
        replay.update_priorities(torch.tensor([index]), torch.tensor([1]), torch.ones(1))


def test_no_priorities_at_all_are_fine():
    replay, none = build(), torch.zeros(0, dtype=torch.int64)
    assert replay.update_priorities(none, none, torch.zeros(0)) == 0


def test_without_epsilon_there_could_be_nothing_to_draw():
    with pytest.raises(ValueError, match="epsilon=0 could leave nothing"):
        build(epsilon=0.0)


# ------------------------------------------------------------------------------------------------ state


@MIXES
@NORMALISERS
@pytest.mark.parametrize("origin", [0, 1])
@pytest.mark.parametrize("goal", [0, 1])
def test_states_of_host_and_device_are_the_same(origin, goal, mix, normaliser):
    """Either may load what the other saved, in one segment or in several, and goes on alike."""
    settings = {"uniform_mix": mix, "normaliser": normaliser}
    replay, copy = twins(**settings)[origin], twins(**settings)[goal]
    life, segments, since = Life([replay], seed=6), [], None
    for rounds in (3, 40, 9):
        life.go_on(rounds)
        state = replay.state_dict(since)
        segments += state["rows"]
        since = segments[-1]["stop"]
    file = io.BytesIO()
    torch.save({"rows": segments, "draws": state["draws"]}, file)
    file.seek(0)
    Life([copy], seed=7).go_on(30)  # whatever it held is gone
    copy.load_state_dict(torch.load(file, weights_only=True))
    both = Life([replay, copy], seed=8)
    both.go_on(80)
    if origin == goal:
        assert same(*zip(*both.batches, strict=True))
    for one, other in both.batches:
        assert torch.equal(one.index, other.index)
        torch.testing.assert_close(one.replay_weight, other.replay_weight, rtol=1e-6, atol=0)
    np.testing.assert_allclose(masses(replay), masses(copy), rtol=1e-14)
    assert replay.dropped_priorities == copy.dropped_priorities > 0


@pytest.mark.parametrize("change", [{"alpha": 0.5}, {"epsilon": 0.1}, {"window": 1}, {"capacity": 44}])
def test_priorities_made_otherwise_are_refused(change):
    with pytest.raises(ValueError, match="set these as they were"):
        build(**change).load_state_dict(build().state_dict())


def test_a_uniform_replay_has_no_priorities_to_load():
    for replay in twins():
        state = replay.state_dict()
        del state["draws"]["made_with"]
        with pytest.raises(ValueError, match="made with None"):
            replay.load_state_dict(state)


def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    job = (*JOB, "replay=on_device", "replay.normaliser=buffer")
    assert call(main.main, (*job, "hydra.run.dir=whole"), monkeypatch, capfd).code == 0
    with monkeypatch.context() as patched:
        interrupt_at(222, patched)
        assert call(main.main, (*job, "hydra.run.dir=run"), monkeypatch, capfd).code == 130
    assert call(main.main, ("resume=run",), monkeypatch, capfd).code == 0
    assert_same_run(Path("whole"), Path("run"))
    assert "dropped_priorities" in (tmp_path / "run" / "metrics.jsonl").read_text()


class DeviceMachine(Machine):
    """Any order of operations against the naive replay, on the device."""

    make = OnDevice


DeviceMachine.TestCase.settings = settings(Machine.TestCase.settings, max_examples=25)
TestOnDevice = DeviceMachine.TestCase
