"""Checkpoints are whole or absent, and damage is named."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from offpol.errors import ConfigError
from offpol.record import checkpoint, checkpoint_files
from offpol.record.checkpoint import Checkpoints

ROWS, CAPACITY = 30, 61  # added between two checkpoints, and kept: of the oldest segment a single row


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch) -> None:
    """What is on the disk is of interest here, not when it gets there."""
    monkeypatch.setattr(checkpoint_files.os, "fsync", lambda descriptor: None)


def segment(since: int, number: int) -> dict:
    """Rows since .. of the one stream that was added to until checkpoint `number`; row k holds k * k."""
    stop = ROWS * number
    oldest = max(0, stop - CAPACITY)
    rows = torch.arange(max(since, oldest), stop)
    return {"obs": rows**2, "stop": torch.tensor([stop]), "oldest": torch.tensor([oldest])}


def state(number: int, since: int = 0) -> dict:
    torch.manual_seed(number)
    return {
        "agent": {"weights": torch.randn(50, 3), "updates": number, "rng": {"big": 2**100, "name": "PCG64"}},
        "replay": {
            "rows": [segment(since, number)],
            "draws": {"masses": torch.randn(4).double(), "none": None, "yes": True, "x": 0.1},
        },
    }


def equal(first: object, second: object) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second) and first.dtype == second.dtype
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(equal, first, second))
    return first == second and type(first) is type(second)


def joined(saved: dict) -> dict:
    """Return a state with its rows that are still there as one tensor."""
    segments = saved["replay"]["rows"]
    kept = int(segments[-1]["stop"] - segments[-1]["oldest"])
    rows = torch.cat([segment["obs"] for segment in segments])[-kept:]
    return {**saved, "replay": {**saved["replay"], "rows": rows}}


def is_whole(found: checkpoint.Checkpoint) -> bool:
    return equal(joined(found.state), joined(state(found.about["agent_steps"])))


def save_one(checkpoints: Checkpoints, number: int) -> Path:
    since = 0 if checkpoints.since is None else int(checkpoints.since)
    return checkpoints.save(state(number, since), {"agent_steps": number})


def save(directory: Path, *numbers: int, keep: int = 2) -> list[Path]:
    checkpoints = Checkpoints(directory, keep)
    return [save_one(checkpoints, number) for number in numbers]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_what_was_saved_comes_back_exactly(tmp_path) -> None:
    save(tmp_path, 1)
    found = checkpoint.load_newest(tmp_path)
    assert equal(found.state, state(1))
    assert found.about == {"agent_steps": 1}
    assert found.lost == []


def test_only_the_newest_are_kept_with_the_segments_they_need(tmp_path) -> None:
    save(tmp_path, 1, 2, 3, 4)
    assert names(tmp_path) == ["000003", "000004", "segments"]
    assert names(tmp_path / "segments") == [f"{n:06d}-0.pt" for n in (1, 2, 3, 4)]  # row 20 is of segment 1
    assert is_whole(checkpoint.load_newest(tmp_path))
    again = Checkpoints(tmp_path, keep=1)
    again.load()
    save_one(again, 5)
    assert names(tmp_path) == ["000005", "segments"]
    assert names(tmp_path / "segments") == [f"{n:06d}-0.pt" for n in (3, 4, 5)]
    assert is_whole(checkpoint.load_newest(tmp_path))


def test_a_checkpoint_writes_only_what_is_new_and_never_changes_a_segment(tmp_path) -> None:
    checkpoints = Checkpoints(tmp_path, 2)
    for number in range(1, 9):
        before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.glob("segments/*")}
        save_one(checkpoints, number)
        after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.glob("segments/*")}
        assert all(after[path] == before[path] for path in after.keys() & before.keys())
        (new,) = after.keys() - before.keys()
        assert len(torch.load(new)["obs"]) == ROWS
        assert is_whole(checkpoint.load_newest(tmp_path))
    assert len(names(tmp_path / "segments")) == 4  # 61 rows of 30 each, for two checkpoints


def test_a_replay_that_knows_no_segments_is_saved_too(tmp_path) -> None:
    saved = {"replay": {"everything": torch.arange(3)}}
    Checkpoints(tmp_path, 1).save(saved, {})
    assert equal(checkpoint.load_newest(tmp_path).state, saved)


def test_parts_can_be_loaded_alone(tmp_path) -> None:
    (path,) = save(tmp_path, 1)
    (path / "replay.pt").write_bytes(b"")
    found = checkpoint.load_newest(tmp_path, only=["agent"])
    assert equal(found.state, {"agent": state(1)["agent"]})


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])  # the end of the last line alone would be no loss


DAMAGES = [flip_a_bit, truncate, Path.unlink]


def parts_of(directory: Path, number: int) -> list[Path]:
    """Everything that belongs to one checkpoint alone."""
    folder = directory / f"{number:06d}"
    return [*sorted(folder.iterdir()), directory / "segments" / f"{number:06d}-0.pt"]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("part", range(4))
def test_a_damaged_checkpoint_is_passed_over_named_and_left_alone(tmp_path, damage, part: int) -> None:
    save(tmp_path, 1, 2)
    path = parts_of(tmp_path, 2)[part]
    damage(path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    found = checkpoint.load_newest(tmp_path)
    assert found.about == {"agent_steps": 1}
    assert is_whole(found)
    assert len(found.lost) == 1
    assert "checkpoint 000002 is damaged" in found.lost[0]
    assert path.name in found.lost[0] or path.name == "manifest.json"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before
    damage(parts_of(tmp_path, 1)[part])
    with pytest.raises(ConfigError, match=r"no whole checkpoint: checkpoint 000002 .* 000001"):
        checkpoint.load_newest(tmp_path)


def test_any_bit_of_a_manifest_matters(tmp_path) -> None:
    save(tmp_path, 1, 2)
    path = tmp_path / "000002" / "manifest.json"
    written = path.read_bytes()
    for place in range(len(written)):
        path.write_bytes(written[:place] + bytes([written[place] ^ 1]) + written[place + 1 :])
        found = checkpoint.load_newest(tmp_path, only=["agent"])
        assert found.about == {"agent_steps": 1}, path.read_text()


@pytest.mark.parametrize("damage", DAMAGES)
def test_going_on_past_a_damaged_checkpoint_keeps_the_whole_one(tmp_path, damage) -> None:
    save(tmp_path, 1, 2, 3)
    damage(tmp_path / "segments" / "000003-0.pt")
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.load().about == {"agent_steps": 2}
    save_one(checkpoints, 3)
    assert names(tmp_path) == ["000002", "000003", "000004", "segments"]  # 3 is no use, but not in the way either
    damage(tmp_path / "000004" / "agent.pt")
    found = Checkpoints(tmp_path, keep=2).load()
    assert found.about == {"agent_steps": 2}
    assert is_whole(found)
    assert len(found.lost) == 2


def test_nothing_to_load_is_one_sentence(tmp_path) -> None:
    with pytest.raises(ConfigError, match="there is none yet"):
        checkpoint.load_newest(tmp_path / "nowhere")


@pytest.mark.parametrize("size", [10, 10_000_000])
def test_a_full_disk_is_an_os_error_not_torchs(size: int) -> None:
    with pytest.raises(OSError, match="No space left"):
        checkpoint_files.write_tensors(Path("/dev/full"), torch.zeros(size))


def test_ctrl_c_while_writing_is_ctrl_c_not_torchs(tmp_path, monkeypatch) -> None:
    def stopped(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint_files._Hashing, "write", stopped)
    with pytest.raises(KeyboardInterrupt):
        checkpoint_files.write_tensors(tmp_path / "part.pt", torch.zeros(10))


def test_somebody_elses_file_among_the_segments_is_left_alone(tmp_path) -> None:
    save(tmp_path, 1)
    strange = tmp_path / "segments" / "copy of 000001-0.pt"
    strange.write_text("")
    checkpoints = Checkpoints(tmp_path, 2)
    assert is_whole(checkpoints.load())
    for number in (2, 3, 4):
        save_one(checkpoints, number)
    assert strange.exists()
    assert is_whole(checkpoints.load())


class Killed(BaseException):
    pass


TOUCHES_DISK = (
    (checkpoint_files.os, "fsync"), (Path, "mkdir"), (Path, "open"), (Path, "rename"), (Path, "replace"),
    (Path, "unlink"), (checkpoint_files._Hashing, "write"), (checkpoint.shutil, "rmtree"),
)  # fmt: skip


def failing_at(moment: int, error: BaseException, patched: pytest.MonkeyPatch, targets: tuple) -> None:
    """Make the given call of those that touch the disk fail, and for a kill all after it."""
    calls = 0

    def wrapped(function):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls > moment and (calls == moment + 1 or isinstance(error, Killed)):
                raise error
            return function(*args, **kwargs)

        return call

    for owner, name in targets:
        patched.setattr(owner, name, wrapped(getattr(owner, name)))


def prepared(directory: Path) -> Checkpoints:
    """Three checkpoints, two of them kept; the fourth drops the second and the first segment."""
    checkpoints = Checkpoints(directory, 2)
    for number in (1, 2, 3):
        save_one(checkpoints, number)
    return checkpoints


def test_a_kill_at_any_moment_of_saving_leaves_the_one_before(tmp_path, monkeypatch) -> None:
    outcomes = []
    for moment in range(1000):
        directory = tmp_path / str(moment)
        checkpoints = prepared(directory)
        with monkeypatch.context() as patched:
            failing_at(moment, Killed(), patched, TOUCHES_DISK)
            try:
                save_one(checkpoints, 4)
                died = False
            except (Killed, RuntimeError):  # torch says RuntimeError when its writer is cut off
                died = True
        after = Checkpoints(directory, 2)
        found = after.load()
        assert found.lost == []
        assert is_whole(found)
        outcomes.append(found.about["agent_steps"])
        save_one(after, 5)  # leftovers are no obstacle, and go
        newest = checkpoint.load_newest(directory)
        assert newest.about["agent_steps"] == 5
        assert is_whole(newest)
        assert not list(directory.rglob("*.partial"))
        listed = {name for path in directory.glob("0*") for name in checkpoint._listed(path)}
        assert set(names(directory / "segments")) == listed
        if not died:
            break
    assert not died
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {3, 4}
    assert moment > 30


def test_a_full_disk_at_any_moment_leaves_the_one_before_and_no_litter(tmp_path, monkeypatch) -> None:
    writes = tuple(target for target in TOUCHES_DISK if target[1] in ("fsync", "mkdir", "open", "write"))
    for moment in range(1000):
        directory = tmp_path / str(moment)
        checkpoints = prepared(directory)
        before = names(directory), names(directory / "segments")
        with monkeypatch.context() as patched:
            failing_at(moment, OSError(errno.ENOSPC, "No space left on device"), patched, writes)
            try:
                save_one(checkpoints, 4)
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017 - it may also not come to that
            else:
                break
        assert (names(directory), names(directory / "segments")) == before
        assert is_whole(checkpoint.load_newest(directory))
        save_one(checkpoints, 4)  # with room again, the same object goes on
        assert is_whole(checkpoint.load_newest(directory))
    assert moment > 20


@pytest.mark.parametrize("bad", [np.zeros(3), np.float64(1.0), {1, 2}, object()])
def test_what_could_not_be_read_back_is_refused_when_saving(tmp_path, bad: object) -> None:
    save(tmp_path, 1)
    with pytest.raises(TypeError, match=r"agent\.list\[1\] is a"):
        Checkpoints(tmp_path, 2).save({"agent": {"list": [1, bad]}}, {})
    assert checkpoint.load_newest(tmp_path).about["agent_steps"] == 1


def test_the_manifest_can_be_read_without_torch(tmp_path) -> None:
    (path,) = save(tmp_path, 1)
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["about"] == {"agent_steps": 1}
    assert set(manifest["files"]) == {"agent.pt", "replay.pt"}
    assert [segment["file"] for segment in manifest["segments"]] == ["000001-0.pt"]
