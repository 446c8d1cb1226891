"""The ring of streams against a replay that keeps everything, and what an actor really saw."""

import itertools

import numpy as np
import pytest
import torch
from naive_replay import NaiveEnv, NaiveReplay, as_rows, chi_square_p, spec_of

from offpol.memory import kernels, kernels_numpy
from offpol.memory.kernels import ACCELERATED
from offpol.memory.ring import Ring
from offpol.memory.windows import gather
from offpol.record.segments import load_rows, rows_since
from offpol.types import Batch, Rows

MODULES = [kernels_numpy, kernels.KERNELS] if ACCELERATED else [kernels_numpy]
FRAMES = {1: [((2,), torch.float32), ((2, 3, 3), torch.uint8)], 2: [((3, 2), torch.uint8), ((2,), torch.float32)],
          4: [((3, 2), torch.uint8), ((3, 2), torch.float32)]}  # fmt: skip


def windows(ring: Ring, slots: list[int]) -> Batch:
    index = np.array(slots, np.int64)
    one = np.ones(len(slots), np.float32)
    return gather(ring, index, one, one)


class World:
    """Rings on every kind of kernel, the naive replay, and the envs that fill them."""

    def __init__(self, streams: int, rows: int, window: int, stack: int, lengths: list, seed: int, frame=0) -> None:
        shape, dtype = FRAMES[stack][frame]
        self.spec = spec_of(streams, stack, shape, dtype)
        self.rng = np.random.default_rng(seed)
        self.envs = [NaiveEnv(self.spec, lengths, self.rng) for _ in range(streams)]
        self.rings = [Ring(streams * rows, spec=self.spec, window=window, kernels=module) for module in MODULES]
        self.naive = NaiveReplay(self.spec, window, rows)

    def step(self, first: int, number: int) -> None:
        rows = [env.step() for env in self.envs[first : first + number]]
        for ring in self.rings:
            ring.add(as_rows(rows), first)
        self.naive.add(rows, first)

    def step_some(self) -> None:
        first = int(self.rng.integers(len(self.envs)))
        self.step(first, int(self.rng.integers(1, len(self.envs) - first + 1)))

    def cut(self, stream: int) -> None:
        for ring in self.rings:
            ring.cut(stream)
        self.naive.cut(stream)
        self.envs[stream].restart()

    def check(self) -> None:
        expected = self.naive.slots()
        for ring in self.rings:
            assert np.flatnonzero(ring.drawable(np.arange(ring.size))).tolist() == expected
            assert ring.num_drawable == len(expected)
        if expected:
            batches = [windows(ring, expected) for ring in self.rings]
            self.naive.check(batches[0])
            for other in batches[1:]:
                assert (batches[0] == other).all()
                assert batches[0].obs.stride() == other.obs.stride()


@pytest.mark.parametrize("stack", [1, 2, 4])
@pytest.mark.parametrize("window", [1, 2, 4])
@pytest.mark.parametrize("streams", [1, 3])
def test_small_rings_exhaustively(streams, window, stack):
    """Every write position of rings from the smallest on, episodes of length 1 and more: set and contents."""
    for spare, lengths, frame in itertools.product((0, 1, 4), ([1], [1, 2, 3], [5, 9]), (0, 1)):
        rows = window + stack + spare
        world = World(streams, rows, window, stack, lengths, seed=spare + 10 * len(lengths), frame=frame)
        for step in range(2 * rows + 3):
            world.step(0, streams) if step % 3 else world.step_some()
            world.check()


@pytest.mark.parametrize("seed", range(6))
def test_streams_that_advance_apart_and_are_cut(seed):
    world = World(streams=3, rows=9, window=2, stack=4, lengths=[1, 2, 6, 12], seed=seed)
    for _ in range(80):
        if world.rng.random() < 0.1:
            world.cut(int(world.rng.integers(3)))
        world.step_some()
        world.check()


def test_slots_are_told_by_stream_and_row_and_by_window():
    world = World(streams=3, rows=9, window=2, stack=2, lengths=[5, 12], seed=3)
    for _ in range(40):
        world.step_some()
    naive, ring, streams = world.naive, world.rings[0], range(3)
    ends = [len(rows) for rows in naive.streams]
    starts = naive.drawable()
    slots = ring.window_slots(np.array([naive.slot(*start) for start in starts]), 2)
    assert slots.tolist() == [[naive.slot(stream, k + t) for t in range(3)] for stream, k in starts]
    assert ring.written.tolist() == [naive.slot(s, k) for s in streams for k in range(max(0, ends[s] - 9), ends[s])]
    assert ring.newest(np.array([2, 0])).tolist() == [naive.slot(s, ends[s] - 1) for s in (2, 0)]


def test_changes_that_add_reports_are_all_changes():
    world = World(streams=2, rows=8, window=3, stack=4, lengths=[1, 3, 8], seed=0)
    known = [np.zeros(ring.size, bool) for ring in world.rings]
    for _ in range(60):
        rows = [env.step() for env in world.envs]
        for ring, drawable in zip(world.rings, known, strict=True):
            changed, now = ring.add(as_rows(rows))
            assert (drawable[changed] != now).all()
            drawable[changed] = now
            np.testing.assert_array_equal(drawable, ring.drawable(np.arange(ring.size)))


@pytest.mark.parametrize(("stack", "frame"), [(1, 0), (1, 1), (2, 0), (2, 1), (4, 0), (4, 1)])
def test_batches_lie_time_major_and_channels_last_in_new_memory(stack, frame):
    world = World(streams=1, rows=12, window=2, stack=stack, lengths=[5], seed=1, frame=frame)
    for _ in range(15):
        world.step(0, 1)
    for ring in world.rings:
        batch = windows(ring, world.naive.slots())
        assert batch.obs.shape[1:] == (3, *world.spec.obs_shape)
        image = stack > 1 and len(world.spec.frame_shape) == 2
        layout = torch.channels_last if image else torch.contiguous_format
        assert batch.obs.transpose(0, 1).flatten(0, 1).is_contiguous(memory_format=layout)
        before = batch.clone()
        windows(ring, world.naive.slots()[::-1])
        for _ in range(12):
            ring.add(as_rows([NaiveEnv(world.spec, [3], world.rng).step()]))
        assert (batch == before).all()


def test_mutating_what_was_added_changes_nothing():
    world = World(streams=2, rows=8, window=1, stack=2, lengths=[3], seed=2)
    for _ in range(12):
        rows = [env.step() for env in world.envs]
        for ring in world.rings:
            logged = as_rows(rows)
            ring.add(logged)
            for array in logged:
                array[:] = 0
        world.naive.add(rows, 0)
        world.check()


@pytest.mark.parametrize("terminated", [False, True])
def test_the_final_observation_of_a_truncated_episode_is_kept(terminated):
    """A new episode has begun since; the window still bootstraps from the old one's last frame."""
    spec = spec_of(1, stack=2)
    ring = Ring(10, spec=spec, window=1)
    rng = np.random.default_rng(0)
    frames = rng.integers(1, 256, (5, 3, 2), dtype=np.uint8)  # two steps, the final frame, a new episode's two
    for t in range(5):
        ring.add(Rows(frames[t : t + 1], np.array([t]), np.array([t], np.float32), np.array([t == 1 and terminated]),
                      np.array([t == 1]), np.array([t != 2]), np.zeros(1, np.float32), np.array([0])))  # fmt: skip
    batch = windows(ring, [1])
    np.testing.assert_array_equal(batch.obs[0, 1], frames[1:3])
    assert batch.reward.item() == 1
    assert batch.terminated.item() is terminated
    assert batch.truncated.item() is True
    assert batch.valid_next.item() is False
    np.testing.assert_array_equal(windows(ring, [3]).obs[0, 0], np.stack([np.zeros((3, 2)), frames[3]]))
    assert not ring.drawable(np.array([2]))[0]


def test_a_lost_life_does_not_cut_the_stack():
    ring = Ring(10, spec=spec_of(1, stack=4), window=1)
    frames = np.random.default_rng(0).integers(1, 256, (6, 3, 2), dtype=np.uint8)
    for t in range(6):
        ring.add(Rows(frames[t : t + 1], np.array([0]), np.zeros(1, np.float32), np.array([t == 2]), np.array([False]),
                      np.array([True]), np.zeros(1, np.float32), np.array([0])))  # fmt: skip
    np.testing.assert_array_equal(windows(ring, [4]).obs[0, 0], frames[1:5])
    assert windows(ring, [2]).valid_next.item() is True


@pytest.mark.parametrize("invalid", [0.1, 0.995])
def test_uniform_draws_are_uniform(invalid):
    """Both ways of drawing: throwing away what is not drawable, and listing the little that is."""
    rng = np.random.default_rng(4)
    ring = Ring(3000, spec=spec_of(3, 1, (1,)), window=1)
    for first in [0, 0, 1, *[0] * 900]:
        number = 3 - first
        ring.add(Rows(np.zeros((number, 1), np.uint8), np.zeros(number, np.int64), np.zeros(number, np.float32),
                      np.zeros(number, bool), np.zeros(number, bool), rng.random(number) >= invalid,
                      np.zeros(number, np.float32), np.zeros(number, np.int64)), first)  # fmt: skip
    counts = np.bincount(ring.draw(rng, 200_000), minlength=ring.size)
    drawable = ring.drawable(np.arange(ring.size))
    assert chi_square_p(counts, drawable / drawable.sum()) > 1e-4
    assert len(ring.draw(rng, 0)) == 0


# ------------------------------------------------------------------------------------------- errors


def test_a_capacity_without_room_for_one_window_is_refused():
    Ring(3 * 7, spec=spec_of(3, 4), window=3)
    with pytest.raises(ValueError, match="set capacity to 21 or more"):
        Ring(3 * 7 - 1, spec=spec_of(3, 4), window=3)
    with pytest.raises(ValueError, match="window=0"):
        Ring(100, spec=spec_of(3, 4), window=0)


def test_how_many_rows_are_missing_is_said_exactly():
    for seed in range(20):
        world = World(streams=2, rows=7, window=3, stack=4, lengths=[1, 2, 5], seed=seed)
        ring = world.rings[-1]
        while not ring.num_drawable:
            with pytest.raises(RuntimeError, match="can be drawn yet") as error:
                ring.draw(world.rng, 1)
            missing = int(str(error.value).split("at least ")[1].split()[0])
            assert missing == min(rows_until_a_window(rows, 3) for rows in world.naive.streams)
            world.step_some()


def rows_until_a_window(rows: list, window: int) -> int:
    """Append valid rows until one starts a whole window."""
    valid = [row.valid for row in rows]
    for more in itertools.count():
        if any(valid[k] for k in range(len(valid) - window)):
            return more
        valid.append(True)


def good_rows() -> Rows:
    return as_rows([NaiveEnv(spec_of(1, 1, (2,)), [5], np.random.default_rng(0)).step() for _ in range(2)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"obs": np.zeros((2, 2), np.float32)}, "Rows.obs must be uint8"),
        ({"obs": np.zeros((2, 3), np.uint8)}, r"Rows.obs must be uint8 of shape \(2, 2\)"),
        ({"reward": np.zeros(2)}, "Rows.reward must be float32"),
        ({"action": np.zeros(1, np.int64)}, "Rows.action must be int64 of shape"),
        ({"behavior_log_prob": np.array([np.nan, 0], np.float32)}, "behavior_log_prob must be the log-probability"),
        ({"behavior_log_prob": np.array([-np.inf, 0], np.float32)}, "behavior_log_prob must be the log-probability"),
        ({"behavior_log_prob": np.array([0.25, 0], np.float32)}, "behavior_log_prob must be the log-probability"),
    ],
)
def test_wrong_rows_are_refused_and_nothing_is_written(change, message):
    ring = Ring(20, spec=spec_of(2, 1, (2,)), window=1)
    with pytest.raises(ValueError, match=message):
        ring.add(good_rows()._replace(**change))
    assert ring.counts.tolist() == [0, 0]
    assert not ring.frames.any()


@pytest.mark.parametrize("first", [-1, 1])
def test_rows_of_streams_that_do_not_exist_are_refused(first):
    with pytest.raises(ValueError, match="streams 0 to 1"):
        Ring(20, spec=spec_of(2, 1, (2,)), window=1).add(good_rows(), first)
    with pytest.raises(ValueError, match="streams 0 to 1"):
        Ring(20, spec=spec_of(2, 1, (2,)), window=1).cut(2)


def test_a_row_that_was_no_decision_needs_no_log_probability_but_a_number():
    rows = good_rows()._replace(valid=np.array([True, False]), behavior_log_prob=np.array([-1, -np.inf], np.float32))
    ring = Ring(20, spec=spec_of(2, 1, (2,)), window=1)
    ring.add(rows)
    assert ring.counts.tolist() == [1, 1]
    with pytest.raises(ValueError, match="no NaN in any"):  # traces multiply what follows an episode by 0
        ring.add(rows._replace(behavior_log_prob=np.array([-1, np.nan], np.float32)))
    assert ring.counts.tolist() == [1, 1]


# ----------------------------------------------------------------------------------- saving, loading


def same(one: Ring, other: Ring) -> None:
    assert one.counts.tolist() == other.counts.tolist()
    assert one.num_drawable == other.num_drawable
    written = one.slots(one.oldest, one.counts)
    for name, values in one.fields.items():
        np.testing.assert_array_equal(values[written], other.fields[name][written])


@pytest.mark.parametrize("seed", range(5))
def test_segments_saved_one_after_the_other_give_the_ring_back(seed):
    """Also where rows between two savings are gone, and where a saved row was cut afterwards."""
    world = World(streams=3, rows=9, window=2, stack=4, lengths=[1, 4, 9], seed=seed)
    ring, segments, counts = world.rings[-1], [], None
    for pause in (1, 4, 0, 30, 2, 3):
        for _ in range(pause):
            world.step_some()
        world.cut(seed % 3)
        segments.append(rows_since(ring, counts))
        world.cut((seed + 1) % 3)
        counts = segments[-1]["stop"]
    segments.append(rows_since(ring, counts))
    assert len(segments[2]["obs"]) == 0
    for chain in (segments, segments[3:], [rows_since(ring)]):
        copy = Ring(27, spec=world.spec, window=2)
        load_rows(copy, chain)
        same(ring, copy)
    for missing in (segments[:3] + segments[4:], segments[4:]):
        with pytest.raises(ValueError, match=r"Saved rows are missing.*put back every file of checkpoints/segments"):
            load_rows(copy, missing)
    same(ring, copy)


def test_loading_forgets_what_was_there():
    world = World(streams=2, rows=9, window=3, stack=2, lengths=[40], seed=0)
    world.step(0, 2)
    little = rows_since(world.rings[0])
    for segments, missing in (([little], 3), ([], 4)):
        ring = world.rings[0]
        for _ in range(20):
            world.step(0, 2)
        load_rows(ring, segments)
        assert ring.num_drawable == 0
        with pytest.raises(RuntimeError, match=f"at least {missing} more rows"):
            ring.require_drawable()


def test_only_written_rows_are_saved():
    world = World(streams=2, rows=50, window=2, stack=4, lengths=[4], seed=0)
    for _ in range(3):
        world.step(0, 2)
    segment = rows_since(world.rings[0])
    assert segment["obs"].shape == (6, 3, 2)
    assert segment["start"].tolist() == [0, 0]
    assert segment["stop"].tolist() == [3, 3]


def test_rows_of_another_shape_are_refused():
    world = World(streams=2, rows=9, window=2, stack=4, lengths=[4], seed=0)
    world.step(0, 2)
    segment = rows_since(world.rings[0])
    with pytest.raises(ValueError, match="load them with the env"):
        load_rows(Ring(20, spec=spec_of(2, 2), window=2), [segment])
    with pytest.raises(ValueError, match="from 2 streams, this replay has 3"):
        load_rows(Ring(30, spec=spec_of(3, 4), window=2), [segment])


def test_an_atari_row_takes_32_bytes_beside_its_frame():
    ring = Ring(8 * 12_500, spec=spec_of(8, 4, (84, 84)), window=1)
    assert (ring.frames.nbytes + ring.records.nbytes) / ring.size == 84 * 84 + 32
