"""Frames in a file are drawn, saved and resumed as frames in memory are."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from command import call
from naive_replay import spec_of
from test_prioritized import build, prioritize_all, steps
from test_resume import JOB, assert_same_run, interrupt_at

from offpol import main
from offpol.memory import storage
from offpol.replay.uniform import Uniform


def test_draws_and_states_are_those_of_memory(tmp_path) -> None:
    batches, states = [], []
    for kind in ({}, {"storage": "memmap", "directory": str(tmp_path / "new")}):
        replay = build(stack=3, capacity=40, **kind)
        steps(replay, 70)
        prioritize_all(replay)
        batches.append(replay.sample(64))
        states.append(replay.state_dict())
    assert (batches[0] == batches[1]).all()
    for name, values in states[0]["rows"][0].items():
        assert torch.equal(values, states[1]["rows"][0][name]), name
    loaded = build(stack=3, capacity=40, storage="memmap", directory=str(tmp_path))
    loaded.load_state_dict(states[0])
    assert (loaded.sample(64) == replay.sample(64)).all()


def test_the_file_takes_its_space_at_once_and_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    asked, fallocate = [], os.posix_fallocate

    def asking(file: int, start: int, length: int) -> None:
        asked.append(length)
        fallocate(file, start, length)

    monkeypatch.setattr(storage.os, "posix_fallocate", asking)
    frames = storage.mapped(tmp_path, (1000, 84, 84), np.dtype(np.uint8))
    assert asked == [1000 * 84 * 84]
    assert not list(tmp_path.iterdir())
    assert frames.shape == (1000, 84, 84)
    assert not frames.any()
    frames[999] = 7
    assert frames.sum() == 84 * 84 * 7


def test_a_disk_without_room_is_one_sentence(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"cannot take the 7\d+\.\d GB of frames .*: make room"):
        storage.mapped(tmp_path, (10**11, 84, 84), np.dtype(np.uint8))


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"directory=.*file/x cannot take the 0\.0 GB of frames \(Not a directory\)"):
        storage.mapped(tmp_path / "file" / "x", (3, 2), np.dtype(np.uint8))


@pytest.mark.parametrize(
    ("kind", "directory", "match"),
    [("disk", None, "storage=disk must be"), ("memory", "x", "is for storage=memmap"), ("memmap", None, "directory")],
)
def test_what_does_not_go_together_is_refused(kind: str, directory: str | None, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Uniform(40, kind, directory, spec=spec_of(2, 2), window=2, seed=0)  # type: ignore[arg-type]


def test_a_run_on_disk_is_the_run_in_memory_also_resumed(tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("memory", "memmap"):
        job = (*JOB, f"replay.storage={name}", f"hydra.run.dir={name}")
        if name == "memmap":
            with monkeypatch.context() as patched:
                interrupt_at(222, patched)
                assert call(main.main, job, monkeypatch, capfd).code == 130
            job = ("resume=memmap", "replay.storage=memory")
        assert call(main.main, job, monkeypatch, capfd).code == 0
    assert_same_run(Path("memory"), Path("memmap"))
