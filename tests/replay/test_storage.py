"""Frames in a file are drawn, saved and resumed as frames in memory are."""

import itertools
import mmap
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command import call
from hypothesis import given
from hypothesis import strategies as st
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
    frames = storage.InFile(tmp_path).zeros((1000, 84, 84), np.dtype(np.uint8))
    assert asked == [1000 * 84 * 84]
    assert not list(tmp_path.iterdir())
    assert frames.shape == (1000, 84, 84)
    assert not frames.any()
    frames[999] = 7
    assert frames.sum() == 84 * 84 * 7


class Asked:
    """Instead of the mapped file: keeps what is asked for."""

    def __init__(self) -> None:
        self.pieces: list[tuple[int, int]] = []

    def madvise(self, advice: int, start: int, length: int) -> None:
        assert (advice, start % mmap.PAGESIZE, length % mmap.PAGESIZE) == (mmap.MADV_WILLNEED, 0, 0)
        self.pieces.append((start // mmap.PAGESIZE, (start + length) // mmap.PAGESIZE))


@given(
    slots=st.lists(st.integers(-1, 999), min_size=1, max_size=30),
    row_bytes=st.sampled_from([1, 100, 2048, 4096, 7056, 30_000]),
)
def test_the_pages_of_what_will_be_read_are_asked_for_once_and_no_others(slots: list[int], row_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        there = storage.InFile(Path(folder))
        there.zeros((1000, row_bytes), np.dtype(np.uint8))
    there._pages, there._waits = Asked(), -1  # type: ignore[assignment]
    there.will_read(np.array(slots).reshape(1, -1, 1))
    touched = {byte // mmap.PAGESIZE for s in slots if s >= 0 for byte in range(s * row_bytes, (s + 1) * row_bytes)}
    asked = [page for start, stop in there._pages.pieces for page in range(start, stop)]
    assert sorted(asked) == sorted(touched)
    assert all(after > stop for (_, stop), (after, _) in itertools.pairwise(there._pages.pieces))  # the fewest calls


def test_only_for_a_while_after_a_page_was_waited_for_are_others_asked_for(tmp_path, monkeypatch) -> None:
    there = storage.InFile(tmp_path)
    there.zeros((10, 4096), np.dtype(np.uint8))
    there._pages = Asked()  # type: ignore[assignment]
    asked, usage = [], SimpleNamespace()
    monkeypatch.setattr(storage.resource, "getrusage", lambda who: usage)
    for usage.ru_majflt in [0] * 5 + [3] * 105 + [4] * 3:
        there._pages.pieces.clear()
        there.will_read(np.array([7]))
        asked.append(bool(there._pages.pieces))
    assert asked == [False] * 5 + [True] * 100 + [False] * 5 + [True] * 3


def test_every_draw_says_what_it_will_read(tmp_path, monkeypatch) -> None:
    replay = build(stack=3, capacity=40, storage="memmap", directory=str(tmp_path))
    steps(replay, 70)
    said: list[np.ndarray] = []
    monkeypatch.setattr(replay.ring.storage, "will_read", said.append)
    batch = replay.sample(16)
    (slots,) = said
    assert slots.shape == (batch.action.shape[1] + 1, 16, 3)
    assert (slots[0, :, -1] == batch.index.numpy()).all()  # the newest frame of a window's first stack


def test_a_disk_without_room_is_one_sentence(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"cannot take the 7\d+\.\d GB of frames .*: make room"):
        storage.InFile(tmp_path).zeros((10**11, 84, 84), np.dtype(np.uint8))


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"directory=.*file/x cannot take the 0\.0 GB of frames \(Not a directory\)"):
        storage.InFile(tmp_path / "file" / "x").zeros((3, 2), np.dtype(np.uint8))


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
