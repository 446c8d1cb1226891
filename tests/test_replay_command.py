"""offpol-replay tells what is there, and carries it elsewhere without loss."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command import Outcome, call
from test_resume import JOB, assert_same_run, interrupt_at, rows_of, same

from offpol import main
from offpol.inspect import inspection, replay_command, replay_contents, replay_pictures
from offpol.record import checkpoint
from offpol.record.run_directory import locked


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A whole run, and one that was interrupted."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patched:
        for name in ("whole", "halted"):
            patched.setattr("sys.argv", ["offpol", *JOB, f"hydra.run.dir={folder / name}"])
            if name == "halted":
                interrupt_at(333, patched)
                with pytest.raises(SystemExit):
                    main.main()
            else:
                main.main()
    return folder


@pytest.fixture
def command(tmp_path, monkeypatch, capfd, runs) -> Callable[..., Outcome]:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs, tmp_path, dirs_exist_ok=True)
    return lambda *arguments: call(replay_command.main, arguments, monkeypatch, capfd)


def test_it_tells_what_is_there(command, tmp_path) -> None:
    shown = command("halted")
    assert shown.code == 0, shown.err
    state = checkpoint.load_newest(Path("halted/checkpoints")).state
    rows = rows_of(state["replay"]["rows"])
    valid = sum(bool(row["valid"]) for row in rows.values())
    assert f"{len(rows):,} in 4 streams, {valid:,} of them transitions" in shown.out
    ends = sum(bool(row["terminated"] | row["truncated"]) for row in rows.values())
    assert f"{ends:,} ends" in shown.out
    drawable = int((state["replay"]["draws"]["masses"] > 0).sum())
    assert f"{drawable:,} of 5 transitions can be drawn" in shown.out
    ages = [state["run"]["updates"] - int(row["policy_version"]) for row in rows.values() if row["valid"]]
    assert f"age of valid rows, updates (median {np.median(ages):.4g})" in shown.out
    for name in ("replay.png", "replay_windows.png"):
        assert Path("halted", name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("logarithmic", [True, False])
@pytest.mark.parametrize("values", [[0.0], [3.0, 3.0], [0.0, 1e-9, 5.0], [1.0, 2.0, 1e6]])
def test_every_value_is_in_a_bin(values: list[float], logarithmic: bool) -> None:
    edges = replay_pictures.edges(np.array(values), 10, logarithmic)
    assert np.histogram(values, edges)[0].sum() == len(values)


def test_export_and_import_lose_nothing(command, tmp_path, monkeypatch, capfd) -> None:
    before = checkpoint.load_newest(Path("halted/checkpoints"))
    assert command("halted", "--export", "rows.npz").code == 0
    with np.load("rows.npz") as file:
        assert file["obs"].dtype == np.float32
        assert file["action"].shape == file["reward"].shape == file["obs"].shape[:1]
    taken = command("halted", "--import", "rows.npz")
    assert taken.code == 0, taken.err
    after = checkpoint.load_newest(Path("halted/checkpoints"))
    assert int(after.path.name) == int(before.path.name) + 1
    for state in (before.state, after.state):
        state["replay"]["rows"] = rows_of(state["replay"]["rows"])
    assert same(before.state, after.state)
    assert call(main.main, ("resume=halted",), monkeypatch, capfd).code == 0
    assert_same_run(Path("whole"), Path("halted"))


def test_a_mixed_replay_goes_on_after_an_import(command, monkeypatch, capfd) -> None:
    job = [word for word in JOB if word != "replay=prioritized"]
    with monkeypatch.context() as patched:
        interrupt_at(222, patched)
        words = (*job, "replay=mixed", "replay.offline=whole", "hydra.run.dir=mixed")
        assert call(main.main, words, patched, capfd).code == 130
    assert command("mixed", "--export", "rows.npz").code == 0
    assert command("mixed", "--import", "rows.npz").code == 0
    assert call(main.main, ("resume=mixed",), monkeypatch, capfd).code == 0


def test_imported_rows_are_no_newer_than_the_run(command, monkeypatch, capfd) -> None:
    """Or ages would be negative."""
    assert command("whole", "--export", "rows.npz").code == 0
    taken = command("halted", "--import", "rows.npz")
    assert (taken.code, taken.err.count("updates back")) == (0, 1)
    after = checkpoint.load_newest(Path("halted/checkpoints"))
    versions = torch.cat([segment["policy_version"] for segment in after.state["replay"]["rows"]])
    assert versions.max() == after.about["updates"]
    with np.load("rows.npz") as file:
        assert np.array_equal(np.diff(np.unique(file["policy_version"])), versions.unique().diff())


def test_nothing_is_imported_into_a_run_that_goes_on(command) -> None:
    assert command("halted", "--export", "rows.npz").code == 0
    before = sorted(Path("halted/checkpoints").iterdir())
    with locked(Path("halted")):
        outcome = command("halted", "--import", "rows.npz")
    assert outcome.code == 2
    assert "is being written by another process" in outcome.err
    assert sorted(Path("halted/checkpoints").iterdir()) == before


def test_an_export_that_does_not_end_leaves_the_one_before(command, monkeypatch) -> None:
    command("halted", "--export", "rows.npz")
    before, save = Path("rows.npz").read_bytes(), np.savez

    def full(file, **arrays) -> None:
        save(file, part=arrays["action"])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    outcome = command("whole", "--export", "rows.npz")
    assert outcome.code == 1
    assert "cannot be written (No space left on device)" in outcome.err
    assert Path("rows.npz").read_bytes() == before
    assert not list(Path().glob("*.partial"))


def test_what_does_not_fit_is_refused(command, tmp_path) -> None:
    command("halted", "--export", "rows.npz")
    with np.load("rows.npz") as file:
        arrays = dict(file)
    np.savez("other.npz", **{**arrays, "obs": arrays["obs"][:, :4], "stack": np.array(2)})
    np.savez("part.npz", obs=arrays["obs"])
    np.savez("game.npz", **{**arrays, "game": np.array("Pong")})
    np.savez("actions.npz", **{**arrays, "action": arrays["action"] + 3})
    np.savez("before.npz", **{**arrays, "action": -arrays["action"]})
    np.savez("float.npz", **{**arrays, "action": arrays["action"].astype(np.float64)})
    np.savez("mu.npz", **{**arrays, "behavior_log_prob": np.abs(arrays["behavior_log_prob"]) + np.float32(1)})
    np.savez("nan.npz", **{**arrays, "reward": arrays["reward"] * np.float32(np.nan)})
    np.savez("stack.npz", **{name: values for name, values in arrays.items() if name != "stack"})
    np.savez("draws.npz", **{**arrays, "draws": np.arange(9, dtype=np.uint8)})
    np.savez("short.npz", **{**arrays, "valid": arrays["valid"][1:]})
    np.save("array.npy", arrays["obs"])
    Path("text.npz").write_text("no archive")
    before = sorted(Path("halted/checkpoints").iterdir())
    for arguments, sentence in (
        (("halted", "--import", "other.npz"), "does not fit the run: The saved frames are"),
        (("halted", "--import", "game.npz"), "it holds rows of Pong, and the run plays Chain-8"),
        (("halted", "--import", "actions.npz"), "it has an action 4, but Chain-8 has actions 0 to 1"),
        (("halted", "--import", "before.npz"), "it has an action -1, but Chain-8 has actions 0 to 1"),
        (("halted", "--import", "float.npz"), "it has action of torch.float64, but rows have it of torch.int64"),
        (("halted", "--import", "mu.npz"), "no logarithm of the probability of an action that was taken"),
        (("halted", "--import", "short.npz"), "it has valid ("),
        (("halted", "--import", "nan.npz"), "it has reward that is not finite"),
        (("halted", "--import", "part.npz"), "is no exported replay"),
        (("halted", "--import", "stack.npz"), "is no exported replay (it has no stack)"),
        (("halted", "--import", "draws.npz"), "is no exported replay (its draws cannot be read)"),
        (("halted", "--import", "array.npy"), "is no exported replay"),
        (("halted", "--import", "text.npz"), "give a file that --export wrote"),
        (("halted", "--import", "gone.npz"), "is no exported replay"),
        (("halted", "--export", "rows.txt"), "must end in .npz"),
        (("halted", "--export", "/proc/rows.npz"), "name another file with --export"),
        (("halted", "--windows", "0"), "--windows must be"),
        (("nowhere",), "is no run"),
    ):
        outcome = command(*arguments)
        assert outcome.code == 2
        assert sentence in outcome.err
        assert len(outcome.err.splitlines()) == 1
    assert sorted(Path("halted/checkpoints").iterdir()) == before


def test_rows_of_a_smaller_replay_are_refused_by_a_larger_one(command, monkeypatch, capfd) -> None:
    """It would miss some of its own, and could not go on."""
    job = [word for word in JOB if not word.startswith("replay=")]
    for name, capacity in (("small", 60), ("large", 2000)):
        words = (*job, "replay=uniform", f"replay.capacity={capacity}", f"hydra.run.dir={name}")
        assert call(main.main, words, monkeypatch, capfd).code == 0
        assert command(name, "--export", f"{name}.npz").code == 0
    refused = command("large", "--import", "small.npz")
    assert refused.code == 2
    assert "small.npz does not fit the run: Saved rows are missing" in refused.err
    assert command("small", "--import", "large.npz").code == 0  # of whose rows it takes the newest
    assert call(main.main, ("resume=small", "run.agent_steps=500"), monkeypatch, capfd).code == 0


def test_an_import_past_a_damaged_checkpoint_says_so_and_leaves_the_whole_one(command) -> None:
    assert command("whole", "--export", "rows.npz").code == 0
    older, newest = sorted(path.name for path in Path("whole/checkpoints").glob("0*"))
    Path("whole/checkpoints", newest, "agent.pt").write_bytes(b"")
    imported = command("whole", "--import", "rows.npz")
    assert imported.code == 0
    assert f"offpol-replay: checkpoint {newest} is damaged" in imported.err
    there = sorted(path.name for path in Path("whole/checkpoints").glob("0*"))
    assert there == [older, newest, f"{int(newest) + 1:06d}"]


def test_a_replay_without_a_whole_window_is_shown(command, monkeypatch, capfd) -> None:
    with monkeypatch.context() as patched:
        interrupt_at(12, patched)
        assert call(main.main, (*JOB, "hydra.run.dir=begun"), patched, capfd).code == 130
    shown = command("begun")
    assert (shown.code, shown.err) == (0, "")
    assert "0 of 5 transitions can be drawn" in shown.out
    assert not Path("begun/replay_windows.png").exists()


def test_frames_that_lie_in_a_file_are_shown_from_one(command, monkeypatch, capfd) -> None:
    assert call(main.main, (*JOB, "replay.storage=memmap", "hydra.run.dir=mapped"), monkeypatch, capfd).code == 0
    folders: list[Path] = []
    in_file = inspection.InFile
    monkeypatch.setattr(inspection, "InFile", lambda folder: (folders.append(folder), in_file(folder))[1])
    assert command("mapped").code == 0
    assert folders == [Path("mapped")]


def test_a_replay_that_saves_rows_alone_is_shown_and_exported(command, monkeypatch) -> None:
    """As a sampler from outside may."""
    found = checkpoint.load_newest(Path("whole/checkpoints"))
    del found.state["replay"]["draws"]
    monkeypatch.setattr(replay_contents, "load_newest", lambda *_, **__: found)
    done = command("whole", "--export", "rows.npz")
    assert (done.code, done.err) == (0, "")
    assert Path("rows.npz").is_file()
