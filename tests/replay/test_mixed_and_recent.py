"""Offline beside online at an exact ratio; a sliding window; runs as Minari datasets and back."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from naive_replay import NaiveEnv, as_rows, spec_of

from offpol.errors import ConfigError
from offpol.offline import load_offline
from offpol.record import checkpoint
from offpol.record.run_directory import write_json
from offpol.replay import mixed as mixed_module
from offpol.replay.mixed import Mixed
from offpol.replay.prioritized import Prioritized
from offpol.replay.recent import Recent
from offpol.replay.uniform import Uniform
from offpol.schedule import Schedule

SPEC, WINDOW = spec_of(3, 2), 2


def play(replay, rounds: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    envs = [NaiveEnv(SPEC, [1, 7, 30], rng) for _ in range(3)]
    for _ in range(rounds):
        replay.add(as_rows([env.step() for env in envs]))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder with a checkpoint of a replay of 40 rows in each of 3 streams."""
    folder, replay = tmp_path_factory.mktemp("run"), Uniform(120, "memory", None, spec=SPEC, window=WINDOW, seed=0)
    play(replay, 50, seed=5)
    keeper = checkpoint.Checkpoints(folder / "checkpoints", keep=2)
    keeper.save({"replay": replay.state_dict()}, {"agent_steps": 150})
    return folder, replay


def mixed(run, start=0.5, end=0.5, over=0, alpha=0.6, **changes) -> Mixed:
    share = Schedule(start, end, over, 0)
    settings = {"capacity": 90, "offline": str(run[0])} | changes
    return Mixed(
        **settings, offline_share=share, alpha=alpha, beta=0.4, epsilon=1e-6, storage="memory", directory=None,
        spec=SPEC, window=WINDOW, seed=3,
    )  # fmt: skip


def test_every_slice_of_a_batch_is_half_offline(run) -> None:
    replay = mixed(run)
    play(replay, 30)
    for _ in range(5):
        batch = replay.sample(32)
        old = batch.index >= replay.capacity_rows
        assert batch.batch_size == torch.Size([32])
        assert (old.view(4, 8).sum(1) == 4).all()
        offline, ring = batch[old], run[1].ring
        for name in ("action", "reward", "behavior_log_prob"):
            first = ring.fields[name][(offline.index - replay.capacity_rows).numpy()]
            np.testing.assert_array_equal(getattr(offline, name)[:, 0].numpy(), first)


@pytest.mark.parametrize(("share", "size"), [(0.25, 32), (1.0, 8), (0.1, 4), (1 / 3, 10), (0.0, 5)])
def test_the_share_is_exact_over_batches(run, share: float, size: int) -> None:
    replay = mixed(run, share, share)
    play(replay, 30)
    drawn = [int((replay.sample(size).index >= replay.capacity_rows).sum()) for _ in range(60)]
    assert sum(drawn) == pytest.approx(60 * size * share, abs=1)
    assert max(drawn) - min(drawn) <= 1


def test_the_share_follows_its_schedule(run) -> None:
    replay = mixed(run, 1.0, 0.0, 120)
    seen = []
    for _ in range(10):
        play(replay, 6)
        seen.append(int((replay.sample(20).index >= replay.capacity_rows).sum()))
    assert seen == sorted(seen, reverse=True)
    assert seen[0] > 12
    assert seen[-1] == 0


def test_priorities_stay_in_their_source(run) -> None:
    replay = mixed(run)
    play(replay, 30)
    before = replay.online.tree.masses.copy(), replay.offline.tree.masses.copy()
    batch = replay.sample(8)
    assert replay.update_priorities(batch.index, batch.generation, torch.arange(1, 9) * 10.0) == 0
    for source, masses, first in ((replay.online, before[0], 0), (replay.offline, before[1], replay.capacity_rows)):
        mine = (batch.index >= replay.capacity_rows) == (first > 0)
        slots = (batch.index[mine] - first).numpy()
        changed = np.flatnonzero(source.tree.masses != masses)
        assert set(changed) == set(slots)
    last = batch.index[-1] - (replay.capacity_rows if batch.index[-1] >= replay.capacity_rows else 0)
    source = replay.offline if batch.index[-1] >= replay.capacity_rows else replay.online
    assert source.tree.masses[last] == pytest.approx(80.0**0.6, rel=1e-5)


def test_a_mixed_replay_goes_on_exactly(run) -> None:
    whole, again = mixed(run, 0.3, 0.3), mixed(run, 0.3, 0.3)
    play(whole, 30)
    for _ in range(3):
        batch = whole.sample(8)
        whole.update_priorities(batch.index, batch.generation, torch.rand(8))
    again.load_state_dict(whole.state_dict())
    for _ in range(4):
        ours, theirs = whole.sample(8), again.sample(8)
        for name in ("index", "obs", "replay_weight", "probability"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))


def test_it_goes_on_with_the_same_frames_alone(run, monkeypatch) -> None:
    """All else may be equal in two datasets, as where one was scaled."""
    whole = mixed(run)
    play(whole, 30)
    saved = whole.state_dict()
    load = mixed_module.load_offline

    def scaled(source, spec):
        found = load(source, spec)
        return found._replace(segments=[{**segment, "obs": segment["obs"] // 2} for segment in found.segments])

    with monkeypatch.context() as patched:
        patched.setattr(mixed_module, "load_offline", scaled)
        others = mixed(run)
    nothing = mixed(run, offline=None, start=0.0, end=0.0)
    for replay, state in ((others, saved), (nothing, saved), (mixed(run), nothing.state_dict())):
        with pytest.raises(ConfigError, match="does not hold the rows that this run has been learning from"):
            replay.load_state_dict(state)
    del saved["mix"]["frames"]  # an earlier commit's counted all else
    others.load_state_dict(saved)


def test_a_run_that_says_what_it_plays_is_of_no_other_game(run, tmp_path) -> None:
    (tmp_path / "checkpoints").symlink_to(run[0] / "checkpoints")
    write_json(tmp_path / "info.json", {"env": "walk", "resumed": []})
    with pytest.raises(ValueError, match=f"is of walk, but this run plays {SPEC.name}"):
        load_offline(str(tmp_path), SPEC)
    assert load_offline(str(tmp_path), dataclasses.replace(SPEC, name="walk")).segments


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"offline": None}, "offline is null, so there is nothing to mix in"),
    ({"start": 1.5}, "offline_share must stay between 0 and 1"),
])  # fmt: skip
def test_what_cannot_be_mixed_is_refused(run, changes, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        mixed(run, **changes)


def test_data_of_another_env_is_refused(run) -> None:
    with pytest.raises(ValueError, match="holds frames of"):
        load_offline(str(run[0]), SPEC.__class__("other", 1, 4, (9,), torch.float32))


def test_data_shorter_than_a_window_is_told(run) -> None:
    with pytest.raises(
        ValueError, match=r"holds no window of 60 transitions: name longer data, or lower agent\.window"
    ):
        Mixed(
            900, str(run[0]), Schedule(0.5, 0.5, 0, 0), 0.6, 0.4, 1e-6, "memory", None, spec=SPEC, window=60, seed=3,
        )  # fmt: skip


def test_probabilities_count_the_share_in_whatever_a_batch_holds(run) -> None:
    replay = mixed(run, 0.1, 0.1, alpha=0.0)
    play(replay, 30)
    batches = [replay.sample(4) for _ in range(5)]
    online = torch.cat([batch.probability[batch.index < replay.capacity_rows] for batch in batches])
    torch.testing.assert_close(online, torch.full_like(online, 0.9 / len(replay)))


@pytest.mark.parametrize("name", ["e/x-v0", "no-version", "a.b/x-v0", "x y-v0"])
def test_what_minari_takes_for_no_id_is_told(name: str, tmp_path, run) -> None:
    from offpol.minari import export_dataset

    with pytest.raises(ConfigError, match="is no id of a Minari dataset"):
        export_dataset(run[0], name)


def test_observations_of_a_dataset_are_read_as_an_envs_are() -> None:
    from offpol.minari import _rows

    episode = SimpleNamespace(
        observations=np.zeros((3, 2)), actions=[0, 1], rewards=[0.0, 1.0], terminations=[False, True],
        truncations=[False, False], infos={},
    )  # fmt: skip
    assert _rows(episode, 1)["obs"].dtype == np.float32


def test_data_without_rows_is_refused(tmp_path) -> None:
    """As of a run whose own replay keeps what only it can read."""
    keeper = checkpoint.Checkpoints(tmp_path / "checkpoints", keep=2)
    keeper.save({"replay": {"window": 3}}, {"agent_steps": 150})
    with pytest.raises(ConfigError, match="holds no rows: its replay was left out of it, or does not keep rows as"):
        load_offline(str(tmp_path), SPEC)


def test_offline_versions_are_counted_back_from_the_newest(run) -> None:
    """As if their policy had acted until the run that reads them began."""
    segments = load_offline(str(run[0]), SPEC).segments
    ring = run[1].ring
    own = ring.records["policy_version"][ring.slots(ring.oldest, ring.counts)]
    read = torch.cat([segment["policy_version"] for segment in segments]).numpy()
    assert read.max() == 0
    assert set(own - own.max()) <= set(read)


def test_a_run_whose_workers_went_on_unevenly_is_read_whole(tmp_path) -> None:
    """Its segments begin at other rows in each stream, and hold other numbers of them."""
    source = Uniform(120, "memory", None, spec=SPEC, window=WINDOW, seed=0)
    keeper, rng = checkpoint.Checkpoints(tmp_path / "checkpoints", keep=2), np.random.default_rng(1)
    envs = [NaiveEnv(SPEC, [1, 7, 30], rng) for _ in range(3)]
    for _ in range(7):
        for stream, steps in enumerate((20, 9, 13)):
            for _ in range(steps):
                source.add(as_rows([envs[stream].step()]), stream)
        keeper.save({"replay": source.state_dict(keeper.since)}, {"agent_steps": 0})
    replay = mixed((tmp_path, source)).offline
    assert replay is not None
    for stream in range(3):
        slots = np.arange(40) + 40 * stream
        for name in ("action", "reward", "behavior_log_prob"):
            ours, theirs = (one.ring.fields[name][slots[one.ring.drawable(slots)]] for one in (replay, source))
            np.testing.assert_array_equal(np.sort(ours), np.sort(theirs))


def test_only_the_newest_rows_are_drawn() -> None:
    replay = Recent(300, 10, "memory", None, spec=SPEC, window=WINDOW, seed=0)
    play(replay, 60)
    ring = replay.ring
    row = [int(slot) for _ in range(20) for slot in replay.sample(32).index]
    newest = {int(slot) for slot in ring.slots(ring.counts - 10, ring.counts) if ring.drawable(np.array([slot]))[0]}
    assert set(row) == newest
    assert len(replay) == len(newest)
    assert replay.sample(4).probability[0] == pytest.approx(1 / len(newest))
    with pytest.raises(ValueError, match="newest_rows=4 cannot always hold a window of 2"):
        Recent(300, 4, "memory", None, spec=SPEC, window=WINDOW, seed=0)


def test_newest_rows_without_a_window_are_told() -> None:
    """Streams that were cut again and again: whole windows are stored, but none is new enough."""
    replay = Recent(300, 5, "memory", None, spec=SPEC, window=WINDOW, seed=0)
    play(replay, 20)
    replay.ring.fields["valid"][replay.ring.slots(replay.ring.counts - 5, replay.ring.counts)] = False
    with pytest.raises(RuntimeError, match="No window of 2 transitions lies in the newest 5 rows of a stream: raise"):
        replay.sample(8)


def test_what_is_missing_between_two_checkpoints_is_not_bridged(tmp_path) -> None:
    """A stream that got more rows than the ring holds, while an older segment still has rows of a slower one."""
    from offpol.inspect.logged_rows import LoggedRows
    from offpol.minari import _streams

    source, segments, rng = Uniform(60, "memory", None, spec=SPEC, window=WINDOW, seed=0), [], np.random.default_rng(1)
    envs = [NaiveEnv(SPEC, [50], rng) for _ in range(3)]
    for steps in ((10, 10, 10), (40, 4, 5), (3, 3, 3)):
        for stream, number in enumerate(steps):
            for _ in range(number):
                source.add(as_rows([envs[stream].step()]), stream)
        segments += source.state_dict(segments[-1]["stop"] if segments else None)["rows"]
    ring = source.ring
    kept = [ring.slots(np.where(np.arange(3) == s, ring.oldest, ring.counts), ring.counts) for s in range(3)]
    logged = LoggedRows(segments, agent_steps=1000, together=False)
    for stream, fields in enumerate(_streams(segments)):
        want = ring.fields["reward"][kept[stream]]
        np.testing.assert_array_equal(fields["reward"][-len(want) :], want)
        assert len(fields["reward"]) == (23 if stream == 0 else ring.counts[stream])
    assert logged.first.tolist() == [30, 0, 0]
    action = ring.fields["action"][kept[0]]
    np.testing.assert_array_equal(logged.action[0, 23 - len(action) : 23], action)


def test_a_dataset_without_probabilities_is_known_to_have_none(run, tmp_path, monkeypatch) -> None:
    pytest.importorskip("minari")
    from offpol import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    minari.export_dataset(run[0], "naive/known-v0")
    monkeypatch.setattr(minari, "LOGGED", ("policy_version",))
    minari.export_dataset(run[0], "naive/unknown-v0")
    assert mixed(run, offline="minari:naive/known-v0").mu_known
    unknown = mixed(run, offline="minari:naive/unknown-v0")
    assert not unknown.mu_known
    play(unknown, 30)
    assert unknown.sample(16).behavior_log_prob.isfinite().all()


@pytest.mark.filterwarnings("ignore:.* None:UserWarning")  # no author, permalink, ...
@pytest.mark.parametrize(("start", "log_mu", "sentence"), [
    (1, -0.5, "actions start at 0"), (0, 0.7, "no logarithm of the probability"), (0, -np.inf, "no logarithm of the"),
])  # fmt: skip
def test_datasets_that_no_actor_could_have_made_are_refused(start, log_mu, sentence, tmp_path, monkeypatch) -> None:
    minari = pytest.importorskip("minari")
    from gymnasium.spaces import Box, Discrete

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    obs, log_prob = np.zeros((9, *SPEC.frame_shape), np.uint8), np.full(9, log_mu, np.float32)
    episode = minari.data_collector.EpisodeBuffer(
        observations=obs, actions=np.full(8, start), rewards=[0.0] * 8, terminations=[False] * 7 + [True],
        truncations=[False] * 8, infos={"behavior_log_prob": log_prob},
    )  # fmt: skip
    minari.create_dataset_from_buffers(
        "naive/wrong-v0", [episode], observation_space=Box(0, 255, SPEC.frame_shape, np.uint8),
        action_space=Discrete(SPEC.num_actions, start=start), jpeg_encoding=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match=sentence):
        load_offline("minari:naive/wrong-v0", SPEC)


def test_a_run_comes_back_from_minari_as_it_was(run, tmp_path, monkeypatch) -> None:
    pytest.importorskip("minari")
    from offpol.minari import export_dataset, import_dataset

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    number = export_dataset(run[0], "naive/test-v0")
    rows = import_dataset("naive/test-v0", stack=SPEC.stack)
    ring = run[1].ring
    slots = ring.slots(ring.oldest, ring.counts)
    ends = np.cumsum(ring.counts - ring.oldest) - 1
    kept = {name: field[slots].copy() for name, field in ring.fields.items()}
    kept["valid"][ends] = False  # a stream's newest row has no next observation
    alone = ~kept["valid"] & ~np.insert(kept["valid"][:-1], 0, False)  # ends of episodes with no row before them
    valid = kept["valid"][~alone]
    assert number == int(valid.sum()) == int(rows["valid"].sum())
    np.testing.assert_array_equal(rows["obs"].numpy(), kept["obs"][~alone])
    for name in ("action", "reward", "terminated", "truncated", "behavior_log_prob", "policy_version"):
        np.testing.assert_array_equal(rows[name].numpy()[valid], kept[name][~alone][valid])
    replay = mixed(run, offline="minari:naive/test-v0")
    play(replay, 30)
    assert isinstance(replay.offline, Prioritized)
    batch = replay.sample(16)
    assert (batch.index >= replay.capacity_rows).sum() == 8
