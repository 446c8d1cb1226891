"""Prioritized replay: what is drawn how often, what weighs how much, and when priorities count."""

import io
import math
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from naive_replay import NaiveEnv, as_rows, chi_square_p, spec_of
from test_context_tree import estimated

from offpol.memory import kernels, kernels_numpy, tree_kernels_numpy
from offpol.memory.kernels import ACCELERATED
from offpol.replay.prioritized import Prioritized
from offpol.replay.uniform import Uniform
from offpol.schedule import Schedule
from offpol.types import Batch, Rows

PLAIN = {"capacity": 40, "alpha": 0.6, "beta": Schedule(0.4, 1.0, 100, 0), "epsilon": 0.01, "new_priority": "max",
         "uniform_mix": 0.0, "draws": "stratified", "normaliser": "batch", "storage": "memory",
         "directory": None}  # fmt: skip


def build(streams: int = 2, stack: int = 2, window: int = 2, seed: int = 0, **changes: Any) -> Prioritized:
    return Prioritized(**(PLAIN | changes), spec=spec_of(streams, stack), window=window, seed=seed)


def steps(replay: Prioritized | Uniform, number: int, lengths: tuple = (3, 7), seed: int = 0) -> None:
    """Add rows of new streams to every stream of a replay."""
    rng = np.random.default_rng(seed)
    envs = [NaiveEnv(replay.ring.spec, list(lengths), rng) for _ in range(replay.ring.num_streams)]
    for _ in range(number):
        replay.add(as_rows([env.step() for env in envs]))


def all_windows(replay: Prioritized) -> tuple[torch.Tensor, torch.Tensor]:
    """Index and generation of every drawable window."""
    slots = np.flatnonzero(replay.ring.drawable(np.arange(replay.ring.size)))
    return torch.from_numpy(slots), torch.from_numpy(replay.ring.generation(slots))


def prioritize_all(replay: Prioritized, seed: int = 0) -> np.ndarray:
    """Give every window another priority, of any sign; return them by slot, NaN where nothing is drawable."""
    index, generation = all_windows(replay)
    priority = np.random.default_rng(seed).normal(size=len(index)) * 3
    assert replay.update_priorities(index, generation, torch.from_numpy(priority)) == 0
    by_slot = np.full(replay.ring.size, np.nan)
    by_slot[index.numpy()] = priority
    return by_slot


def expected_probability(priority: np.ndarray, alpha: float, epsilon: float, mix: float = 0.0) -> np.ndarray:
    """The formula, over slots; 0 where the priority is NaN."""
    there = ~np.isnan(priority)
    base = np.abs(np.where(there, priority, 0)) + epsilon
    mass = np.where(there & (base > 0), np.where(base > 0, base, 1) ** alpha, 0)
    return (1 - mix) * mass / mass.sum() + mix * there / there.sum()


# ------------------------------------------------------------------------------ draws and their weights


@pytest.mark.parametrize("draws", ["stratified", "iid"])
@pytest.mark.parametrize(
    ("alpha", "epsilon", "mix"), [(0.6, 0.01, 0), (1, 0, 0), (0, 0.5, 0), (0.9, 0.01, 0.3), (2, 1, 1)]
)
def test_draws_follow_the_formula(draws, alpha, epsilon, mix):
    replay = build(alpha=alpha, epsilon=epsilon, uniform_mix=mix, draws=draws)
    steps(replay, 50)
    expected = expected_probability(prioritize_all(replay), alpha, epsilon, mix)
    counts = np.zeros(replay.ring.size)
    for _ in range(200):
        batch = replay.sample(300)
        counts += np.bincount(batch.index, minlength=len(counts))
        np.testing.assert_allclose(batch.probability, expected[batch.index], rtol=1e-6)
    if draws == "iid" or mix:
        assert chi_square_p(counts, expected) > 1e-4
    else:  # strata make draws more even than chance
        np.testing.assert_allclose(counts / counts.sum(), expected, atol=4 / 300 / 200**0.5)


def test_each_stratum_is_drawn_from_once():
    replay = build(draws="stratified", alpha=0.0)
    steps(replay, 50)
    number = len(replay)
    for _ in range(20):  # equal masses and one stratum for each: every window once
        assert len(replay.sample(number).index.unique()) == number


@pytest.mark.parametrize("normaliser", ["batch", "buffer"])
@pytest.mark.parametrize("mix", [0.0, 0.25])
@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_weights_equal_the_float64_formula(normaliser, mix, beta):
    replay = build(normaliser=normaliser, uniform_mix=mix, beta=Schedule(beta, beta, 1, 0))
    steps(replay, 50)
    probability = expected_probability(prioritize_all(replay), 0.6, 0.01, mix)
    batch = replay.sample(8)
    weight = (len(replay) * probability[probability > 0]) ** -beta
    drawn = (len(replay) * probability[batch.index]) ** -beta
    largest = drawn.max() if normaliser == "batch" else weight.max()
    np.testing.assert_allclose(batch.replay_weight, drawn / largest, rtol=1e-6)
    assert batch.replay_weight.dtype == batch.probability.dtype == torch.float32
    assert batch.replay_weight.max() <= 1


def test_the_buffer_maximum_follows_windows_that_come_and_go():
    replay = build(normaliser="buffer", beta=Schedule(1, 1, 1, 0))
    steps(replay, 50)
    for seed in range(20):
        priority = prioritize_all(replay, seed)
        steps(replay, seed % 5, seed=seed)
        drawable = replay.ring.drawable(np.arange(replay.ring.size))
        mass = replay.tree.masses
        assert (mass[drawable] > 0).all()
        assert (mass[~drawable] == 0).all()
        batch = replay.sample(4)
        np.testing.assert_allclose(batch.replay_weight, mass[drawable].min() / mass[batch.index], rtol=1e-6)
        assert (np.nanmax(np.abs(priority)) + 0.01) ** 0.6 <= replay._largest_mass * (1 + 1e-12)


def test_beta_goes_by_valid_rows():
    replay = build(beta=Schedule(0.0, 1.0, 60, 0), capacity=400)
    steps(replay, 40, lengths=(1,))  # every other row is a reset: 2 x 20 agent steps
    index, generation = all_windows(replay)
    replay.update_priorities(index, generation, torch.arange(1.0, len(index) + 1))
    batch = replay.sample(64)
    share = batch.probability.double()
    np.testing.assert_allclose(batch.replay_weight, (share / share.min()) ** -(40 / 60), rtol=1e-5)


def test_no_priority_and_alpha_zero_is_not_drawn():
    replay = build(alpha=0.0, epsilon=0.0)
    steps(replay, 50)
    index, generation = all_windows(replay)
    priority = torch.zeros(len(index))
    priority[3] = 5
    replay.update_priorities(index, generation, priority)
    assert (replay.sample(50).index == index[3]).all()
    replay.update_priorities(index, generation, torch.zeros(len(index)))
    with pytest.raises(RuntimeError, match="set epsilon above 0"):
        replay.sample(1)


# ------------------------------------------------------------------------------------------- priorities


def test_a_window_gets_the_highest_priority_when_it_is_complete():
    replay = build(streams=1, stack=1, window=2, epsilon=0.0, alpha=1.0, capacity=20)
    env = NaiveEnv(replay.ring.spec, [100], np.random.default_rng(0))
    masses = []
    for step in range(7):
        replay.add(as_rows([env.step()]))
        masses.append(replay.tree.masses[:7].tolist())
        if step == 3:  # slots 0 and 1 are drawable; -9 counts as 9
            replay.update_priorities(torch.tensor([0]), torch.tensor([1]), torch.tensor([-9.0]))
        if step == 4:
            replay.update_priorities(torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor([0.5, 2.0]))
    assert masses[1] == [0, 0, 0, 0, 0, 0, 0]
    assert masses[2] == [1, 0, 0, 0, 0, 0, 0]
    assert masses[4] == [9, 1, 9, 0, 0, 0, 0]
    assert masses[6] == [0.5, 2, 9, 9, 9, 0, 0]


@pytest.mark.parametrize("mix", [0.0, 0.3])
@pytest.mark.parametrize("normaliser", ["batch", "buffer"])
def test_a_window_without_priority_counts_as_its_neighborhood(mix, normaliser):
    replay = build(capacity=400, new_priority="neighborhood", uniform_mix=mix, normaliser=normaliser)
    steps(replay, 130)
    index, generation = all_windows(replay)
    uniform = replay.sample(8)
    np.testing.assert_allclose(uniform.probability, 1 / len(replay), rtol=1e-6)
    np.testing.assert_allclose(uniform.replay_weight, 1)
    rng = np.random.default_rng(0)
    for _ in range(8):  # a few more are known each time
        some = torch.from_numpy(rng.integers(len(index), size=5))
        replay.update_priorities(index[some], generation[some], torch.from_numpy(rng.normal(size=5)))
        mass = estimated(replay.tree.masses, prior=1.01**0.6)
        assert (mass[index] > 0).all()
        share = (1 - mix) * mass / mass.sum() + mix / len(index)
        batch = replay.sample(300)
        np.testing.assert_allclose(batch.probability, share[batch.index], rtol=1e-6)
        least = share[index].min() if normaliser == "buffer" else share[batch.index].min()
        beta = replay.beta(replay._agent_steps)
        np.testing.assert_allclose(batch.replay_weight, (share[batch.index] / least) ** -beta, rtol=1e-5)
    assert np.isnan(replay.tree.masses[index]).sum() > len(index) / 2


@pytest.mark.parametrize("new_priority", ["max", "neighborhood"])
def test_alpha_moves_in_steps_and_takes_all_masses_with_it(new_priority):
    replay = build(capacity=800, alpha=Schedule(0.9, 0.3, 300, 0), new_priority=new_priority, uniform_mix=0.0)
    env = [NaiveEnv(replay.ring.spec, [1000], np.random.default_rng(i)) for i in range(2)]
    alphas, priority = {replay.alpha}, {}
    for step in range(200):
        replay.add(as_rows([one.step() for one in env]))
        alphas.add(replay.alpha)
        assert abs(replay.alpha - replay.alpha_schedule(replay._agent_steps)) < 0.006
        index, generation = all_windows(replay)
        if step % 10 == 9:
            some = np.random.default_rng(step).integers(len(index), size=6)
            value = np.random.default_rng(step).normal(size=6) * 3
            replay.update_priorities(index[some], generation[some], torch.from_numpy(value))
            priority |= dict(zip(index[some].tolist(), np.abs(value) + 0.01, strict=True))
            known = np.array(list(priority))
            expected = np.array(list(priority.values())) ** replay.alpha
            np.testing.assert_allclose(replay.tree.masses[known], expected, rtol=1e-12)
            np.testing.assert_allclose(replay._largest_mass, max(1.01, *priority.values()) ** replay.alpha, rtol=1e-12)
            mass = estimated(replay.tree.masses, prior=1.01**replay.alpha)
            batch = replay.sample(9)
            np.testing.assert_allclose(batch.probability, mass[batch.index] / mass.sum(), rtol=1e-6)
    assert replay.alpha == 0.3
    assert 50 < len(alphas) <= 101


def test_a_late_priority_leaves_the_new_row_alone():
    replay = build(streams=1, stack=1, window=1, capacity=5)
    steps(replay, 4, lengths=(100,))
    old = replay.sample(64)
    slot = old.index == 0
    assert slot.any()
    steps(replay, 4, lengths=(100,))  # writes slot 0 again, with a whole window
    before = replay.tree.masses.copy()
    assert before[0] > 0
    late = (old.index[slot][:1], old.generation[slot][:1])
    assert replay.update_priorities(*late, torch.tensor([1e6])) == 1
    assert replay.dropped_priorities == 1
    assert replay._largest_mass == 1.01**0.6
    np.testing.assert_array_equal(replay.tree.masses, before)
    assert replay.update_priorities(late[0], late[1] + 1, torch.tensor([2.0])) == 0
    assert replay.tree.masses[0] == (2 + replay.epsilon) ** replay.alpha


def test_a_priority_cannot_revive_a_window_whose_frames_are_gone():
    replay = build(streams=1, stack=4, window=1, capacity=10)
    env = NaiveEnv(replay.ring.spec, [100], np.random.default_rng(0))
    for _ in range(10):
        replay.add(as_rows([env.step()]))
    generation = replay.ring.generation(np.array([1]))
    replay.add(as_rows([env.step()]))  # takes row 0, which row 1 shows; row 1 itself is still there
    assert replay.ring.generation(np.array([1])) == generation
    assert replay.update_priorities(torch.tensor([1]), torch.from_numpy(generation), torch.ones(1)) == 1
    assert replay.tree.masses[1] == 0


def test_of_equal_indices_the_last_counts():
    replay = build(alpha=1.0, epsilon=0.0)
    steps(replay, 50)
    index, generation = (values[:1].repeat(3) for values in all_windows(replay))
    replay.update_priorities(index, generation, torch.tensor([5.0, 7.0, 3.0]))
    assert replay.tree.masses[index[0]] == 3
    assert replay._largest_mass == 7


@pytest.mark.slow
@pytest.mark.parametrize("new_priority", ["max", "neighborhood"])
def test_ten_million_updates_leave_no_trace(new_priority):
    """Sums are those of a new tree with the same masses, bit for bit, and of exact summation but for one rounding."""
    replay = build(capacity=4000, new_priority=new_priority, normaliser="buffer")
    steps(replay, 2100)
    index, generation = all_windows(replay)
    rng = np.random.default_rng(0)
    for _ in range(10_000_000 // 3200):
        some = torch.from_numpy(rng.integers(len(index), size=(100, 32)))
        size = 10.0 ** rng.integers(-9, 9, (100, 32))  # large ones beside small ones: adding differences would drift
        for which, priority in zip(some, torch.from_numpy(rng.exponential(size=(100, 32)) * size), strict=True):
            assert replay.update_priorities(index[which], generation[which], priority) == 0
    again = build(capacity=4000, new_priority=new_priority, normaliser="buffer").tree
    again.load(replay.tree.masses)
    np.testing.assert_array_equal(again._nodes, replay.tree._nodes)
    assert again.smallest == replay.tree.smallest
    exact = math.fsum(estimated(replay.tree.masses, prior=1.01**0.6))
    assert replay.tree.total == pytest.approx(exact, rel=1e-14)


A_MILLION_ATARI_STEPS = """
import numpy as np, torch
from offpol.replay.prioritized import Prioritized
from offpol.schedule import Schedule
from offpol.types import EnvSpec, Rows

def resident():
    fields = open("/proc/self/statm").read().split()
    return int(fields[1]) * 4096

spec = EnvSpec("Atari", 8, 18, (84, 84), torch.uint8, stack=4)
before = resident()
replay = Prioritized(1_000_000, 0.5, Schedule(0.4, 1.0, 1_000_000, 0), 1e-6, "max", 0.0, "stratified", "buffer",
                     "memory", None, spec=spec, window=5, seed=0)
whole = np.ones(8, np.int64)
rows = Rows(np.ones((8, 84, 84), np.uint8), whole, whole.astype(np.float32), whole > 1, whole > 1, whole > 0,
            -whole.astype(np.float32), whole)
for _ in range(125_100):
    replay.add(rows)
batch = replay.sample(32)
replay.update_priorities(batch.index, batch.generation, batch.reward[:, 0])
assert len(replay) > 999_900
print(resident() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read where Linux tells it")
def test_a_million_atari_steps_take_at_most_seven_and_a_half_gigabytes():
    """All of a process's resident memory but what it had before, with every row written."""
    done = subprocess.run([sys.executable, "-c", A_MILLION_ATARI_STEPS], capture_output=True, text=True, check=True)
    assert 7.0e9 < int(done.stdout) < 7.5e9


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("alpha", [0.6, 0.0])
@pytest.mark.parametrize("module", [kernels_numpy, kernels.KERNELS])
def test_priorities_that_are_no_numbers_are_refused(wrong, alpha, module):
    replay = build(alpha=alpha)
    replay.ring.kernels = module
    steps(replay, 50)
    index, generation = all_windows(replay)
    before = replay.tree.masses.copy()
    with pytest.raises(ValueError, match="Priorities must be finite"):
        replay.update_priorities(index[:2], generation[:2], torch.tensor([1.0, wrong]))
    np.testing.assert_array_equal(replay.tree.masses, before)
    assert replay._largest_mass == 1.01**alpha
    assert replay.update_priorities(index[:1], generation[:1] + 1, torch.tensor([wrong])) == 1  # it does not count


@pytest.mark.parametrize("index", [-1, 40])
@pytest.mark.parametrize("module", [kernels_numpy, kernels.KERNELS])
def test_indices_that_are_no_slots_are_refused(index, module):
    replay = build()
    replay.ring.kernels = module
    steps(replay, 50)
    with pytest.raises(IndexError, match="no slot"):
        replay.update_priorities(torch.tensor([index]), torch.tensor([1]), torch.ones(1))


def test_no_priorities_at_all_are_fine():
    replay = build()
    steps(replay, 50)
    none = torch.zeros(0, dtype=torch.int64)
    assert replay.update_priorities(none, none, torch.zeros(0)) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": -0.1}, "alpha=-0.1"),
        ({"alpha": float("nan")}, "alpha=nan"),
        ({"epsilon": -1.0}, "epsilon=-1.0"),
        ({"beta": Schedule(0.4, -1.0, 10, 0)}, "beta.end=-1.0"),
        ({"uniform_mix": 1.5}, "uniform_mix=1.5"),
        ({"alpha": Schedule(0.5, -1.0, 10, 0)}, "alpha.end=-1.0"),
        ({"alpha": Schedule(0.5, 0.0, 10, 0)}, "alpha cannot go from 0.5 to 0.0"),
        ({"alpha": Schedule(0.0, 0.5, 10, 0)}, "alpha cannot go from 0.0 to 0.5"),
        ({"new_priority": "neighborhood", "epsilon": 0.0}, "epsilon=0 lets a priority be 0"),
        ({"draws": "random"}, "draws=random must be one of stratified, iid"),
        ({"normaliser": "sum"}, "normaliser=sum"),
        ({"new_priority": "mean"}, "new_priority=mean"),
        ({"uniform_mix": 0.1, "epsilon": 0.0, "normaliser": "buffer"}, "epsilon=0 lets"),
        ({"capacity": 5}, "set capacity to 8 or more"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        build(**change)


# ------------------------------------------------------------------------------------- state, kernels


def run(replay: Prioritized | Uniform, rounds: int, seed: int) -> list[Batch]:
    """Add, draw and prioritize, all from one seed."""
    rng = np.random.default_rng(seed)
    spec = replay.ring.spec
    envs = [NaiveEnv(spec, [2, 9], rng) for _ in range(spec.num_envs)]
    batches = []
    for _ in range(rounds):
        replay.add(as_rows([env.step() for env in envs]))
        if len(replay):
            batch = replay.sample(6)
            late = batches[-5] if len(batches) >= 5 else batch
            replay.update_priorities(late.index, late.generation, torch.from_numpy(rng.normal(size=6)))
            batches.append(batch)
    return batches


KINDS: dict[str, dict] = {
    "uniform": {}, "batch": {"uniform_mix": 0.2}, "buffer": {"normaliser": "buffer", "uniform_mix": 0.2},
    "neighborhood": {"new_priority": "neighborhood", "normaliser": "buffer", "uniform_mix": 0.2},
    "moving alpha": {"new_priority": "neighborhood", "alpha": Schedule(0.9, 0.3, 150, 0)},
}  # fmt: skip


def make(kind: str, seed: int = 0) -> Prioritized | Uniform:
    if kind == "uniform":
        return Uniform(40, "memory", None, spec=spec_of(2, 2), window=2, seed=seed)
    return build(**KINDS[kind], seed=seed)


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) > 0 and all((a == b).all() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [3, 8, 60])
def test_a_loaded_state_goes_on_bit_for_bit(kind, rows):
    replay = make(kind)
    run(replay, rows, seed=1)
    file = io.BytesIO()
    torch.save(replay.state_dict(), file)
    file.seek(0)
    copy = make(kind, seed=99)
    run(copy, 13, seed=5)  # whatever it held is gone
    copy.load_state_dict(torch.load(file, weights_only=True))
    assert same(run(replay, 60, seed=2), run(copy, 60, seed=2))
    assert not same(run(replay, 5, seed=2), run(make(kind, seed=1), 60, seed=2)[-5:])


@pytest.mark.parametrize("kind", ["uniform", "batch"])
def test_states_of_what_is_new_add_up(kind):
    replay, segments, since = make(kind), [], None
    for rounds in (5, 11, 40, 2):
        run(replay, rounds, seed=rounds)
        replay.cut(1)
        state = replay.state_dict(since)
        segments += state["rows"]
        since = segments[-1]["stop"]
    assert len(segments[-1]["obs"]) == 4
    copy = make(kind)
    copy.load_state_dict({"rows": segments, "draws": state["draws"]})
    assert same(run(replay, 60, seed=2), run(copy, 60, seed=2))


def test_counters_are_part_of_the_state():
    replay = build()
    run(replay, 60, seed=0)
    copy = build()
    copy.load_state_dict(replay.state_dict())
    for name in ("dropped_priorities", "_largest_mass", "_agent_steps"):
        assert getattr(copy, name) == getattr(replay, name) > 0, name


@pytest.mark.parametrize("change", [
    {"alpha": 0.5}, {"alpha": Schedule(0.6, 0.5, 9, 0)}, {"epsilon": 0.1}, {"new_priority": "neighborhood"},
    {"window": 1}, {"capacity": 44},
])  # fmt: skip
def test_priorities_made_otherwise_are_refused(change):
    replay = build()
    steps(replay, 50)
    with pytest.raises(ValueError, match="set these as they were"):
        build(**change).load_state_dict(replay.state_dict())


@pytest.mark.skipif(not ACCELERATED, reason="there is only one kind of kernels")
@pytest.mark.parametrize("kind", KINDS)
def test_numpy_and_numba_draw_the_same(kind):
    fast, slow = make(kind), make(kind)
    slow.ring.kernels = kernels_numpy
    if isinstance(slow, Prioritized):
        slow.tree._kernels = tree_kernels_numpy
    assert same(run(fast, 100, seed=3), run(slow, 100, seed=3))


@pytest.mark.parametrize("kind", ["uniform", "batch"])
def test_threads_never_see_half_a_row(kind):
    """One thread adds rows whose fields all tell the same number, one draws, one reads the state."""
    replay = make(kind)
    stop, errors = threading.Event(), []

    def add() -> None:
        for number in range(1, 3000):
            full, frames = np.full(2, number), np.full((2, 3, 2), number % 251, np.uint8)
            replay.add(Rows(frames, full, full.astype(np.float32), full < 0, full < 0, full > 0,
                            -full.astype(np.float32), full))  # fmt: skip
        stop.set()

    def guarded(check) -> None:
        try:
            while not stop.is_set():
                if len(replay):
                    check()
        except BaseException as error:
            errors.append(error)

    def draw() -> None:
        batch = replay.sample(4)
        number = batch.action
        assert (number[:, 1:] == number[:, :-1] + 1).all()
        assert (batch.reward == number).all()
        assert (batch.policy_version == number).all()
        assert (batch.obs[:, :-1, -1, 0, 0] == number % 251).all()
        assert (batch.obs[:, 1:, 0] == batch.obs[:, :-1, 1]).all()
        replay.update_priorities(batch.index, batch.generation, torch.rand(4))

    def save() -> None:
        segment = replay.state_dict()["rows"][0]
        assert (segment["obs"][:, 0, 0] == segment["action"] % 251).all()

    threads = [threading.Thread(target=add)]
    threads += [threading.Thread(target=guarded, args=(check,)) for check in (draw, save)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


# --------------------------------------------------------------------------------------------- uniform


def test_uniform_replay_weighs_and_draws_all_alike():
    replay = make("uniform")
    steps(replay, 50)
    counts = np.zeros(40)
    for _ in range(100):
        batch = replay.sample(200)
        counts += np.bincount(batch.index, minlength=40)
        assert (batch.replay_weight == 1).all()
        np.testing.assert_allclose(batch.probability, 1 / len(replay))
    assert chi_square_p(counts, replay.ring.drawable(np.arange(40)) / len(replay)) > 1e-4


def test_uniform_replay_counts_late_priorities_too():
    replay = make("uniform")
    steps(replay, 10)
    batch = replay.sample(5)
    assert replay.update_priorities(batch.index, batch.generation, torch.ones(5)) == 0
    steps(replay, 25)
    assert replay.update_priorities(batch.index, batch.generation, torch.ones(5)) == 5
