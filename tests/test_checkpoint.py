"""Checkpoints are whole or absent, and damage is named."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from offpol import checkpoint
from offpol.errors import ConfigError


def state(number: int) -> dict:
    torch.manual_seed(number)
    return {
        "agent": {"weights": torch.randn(50, 3), "updates": number, "rng": {"big": 2**100, "name": "PCG64"}},
        "replay": {"rows": [torch.arange(100), torch.randn(4).double()], "none": None, "yes": True, "x": 0.1},
    }


def equal(first: object, second: object) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second) and first.dtype == second.dtype
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(equal, first, second))
    return first == second and type(first) is type(second)


def save(directory: Path, *numbers: int) -> list[Path]:
    return [checkpoint.save(directory, state(n), {"agent_steps": n}) for n in numbers]


def test_what_was_saved_comes_back_exactly(tmp_path) -> None:
    save(tmp_path, 7)
    found = checkpoint.load_newest(tmp_path)
    assert equal(found.state, state(7))
    assert found.about == {"agent_steps": 7}
    assert found.lost == []


def test_only_the_newest_are_kept(tmp_path) -> None:
    save(tmp_path, 1, 2, 3, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000003", "000004"]
    assert checkpoint.load_newest(tmp_path).about["agent_steps"] == 4
    checkpoint.save(tmp_path, state(5), {"agent_steps": 5}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["000005"]


def test_parts_can_be_loaded_alone(tmp_path) -> None:
    (path,) = save(tmp_path, 1)
    (path / "replay.pt").write_bytes(b"")
    found = checkpoint.load_newest(tmp_path, only=["agent"])
    assert equal(found.state, {"agent": state(1)["agent"]})


def flip_a_bit(path: Path) -> None:
    content = bytearray((path / "replay.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (path / "replay.pt").write_bytes(content)


def truncate(path: Path) -> None:
    (path / "replay.pt").write_bytes((path / "replay.pt").read_bytes()[:-1])


def remove_a_file(path: Path) -> None:
    (path / "agent.pt").unlink()


def cut_the_manifest(path: Path) -> None:
    (path / "manifest.json").write_text((path / "manifest.json").read_text()[:-5])


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, remove_a_file, cut_the_manifest])
def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path, damage) -> None:
    older, newer = save(tmp_path, 1, 2)
    damage(newer)
    found = checkpoint.load_newest(tmp_path)
    assert equal(found.state, state(1))
    assert len(found.lost) == 1
    assert "checkpoint 000002 is damaged" in found.lost[0]
    damage(older)
    with pytest.raises(ConfigError, match=r"no whole checkpoint: checkpoint 000002 .* 000001"):
        checkpoint.load_newest(tmp_path)


def test_nothing_to_load_is_one_sentence(tmp_path) -> None:
    with pytest.raises(ConfigError, match="there is none yet"):
        checkpoint.load_newest(tmp_path / "nowhere")


class Killed(BaseException):
    pass


def save_dying_at(moment: int, directory: Path, number: int, patched: pytest.MonkeyPatch) -> bool:
    """Save, but die at the given call of those that touch the disk; tell whether it came to that."""
    calls = 0

    def dying(function):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls > moment:
                raise Killed
            return function(*args, **kwargs)

        return call

    for owner, name in (
        (checkpoint.os, "fsync"), (checkpoint.Path, "mkdir"), (checkpoint.Path, "open"), (checkpoint.Path, "rename"),
        (checkpoint._Hashing, "write"), (checkpoint.shutil, "rmtree"),
    ):  # fmt: skip
        patched.setattr(owner, name, dying(getattr(owner, name)))
    try:
        save(directory, number)
    except (Killed, RuntimeError):  # torch says RuntimeError when its writer is cut off
        return True
    return False


def test_a_kill_at_any_moment_of_saving_leaves_the_one_before(tmp_path, monkeypatch) -> None:
    for moment in range(1000):
        directory = tmp_path / str(moment)
        save(directory, 1)
        with monkeypatch.context() as patched:
            died = save_dying_at(moment, directory, 2, patched)
        found = checkpoint.load_newest(directory)
        assert found.lost == []
        assert equal(found.state, state(found.about["agent_steps"]))
        save(directory, 3)  # leftovers are no obstacle, and go
        assert checkpoint.load_newest(directory).about["agent_steps"] == 3
        assert not list(directory.glob("*.partial"))
        if not died:
            break
    assert not died
    assert found.about["agent_steps"] == 2
    assert moment > 20


@pytest.mark.parametrize("bad", [np.zeros(3), np.float64(1.0), {1, 2}, object()])
def test_what_could_not_be_read_back_is_refused_when_saving(tmp_path, bad: object) -> None:
    save(tmp_path, 1)
    with pytest.raises(TypeError, match=r"replay\.rows\[1\] is a"):
        checkpoint.save(tmp_path, {"replay": {"rows": [1, bad]}}, {})
    assert checkpoint.load_newest(tmp_path).about["agent_steps"] == 1


def test_the_manifest_can_be_read_without_torch(tmp_path) -> None:
    (path,) = save(tmp_path, 1)
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["about"] == {"agent_steps": 1}
    assert set(manifest["files"]) == {"agent.pt", "replay.pt"}
