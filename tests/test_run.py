"""Counting, cadences, logs, signals and going on, by themselves: a topology is not needed."""

import csv
import json
import math
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from offpol.actor import Episode
from offpol.errors import ConfigError
from offpol.progress import Progress
from offpol.record.logger import Logger
from offpol.record.run_directory import locked
from offpol.run import Run, RunConfig
from offpol.types import Rows

CONFIG = RunConfig(
    agent_steps=100, num_envs=4, replay_ratio=0.5, learning_starts_agent_steps=20, log_every_agent_steps=20,
    measure_every_updates=1, checkpoint_every_agent_steps=40, keep_checkpoints=2, eval_episodes=0, eval_num_envs=1,
    eval_epsilon=None,
    eval_over="q", torch_threads=1, device="cpu", actor_device=None, compile=False, cuda_graph=False, autocast="none",
)  # fmt: skip


def rows(valid: int = 4) -> Rows:
    flags = np.arange(4) < valid
    return Rows(*[np.zeros(4)] * 5, flags, *[np.zeros(4)] * 2)


def steps(run: Run, until: int, forever: bool = False) -> None:
    """Act and learn as a topology would; metrics and scores are functions of the agent steps."""
    while not run.done and (run.agent_steps < until or forever):
        ended = [Episode(1, run.agent_steps / 10, 3)] if run.agent_steps % 12 == 0 else []
        run.count(rows(), ended)
        for _ in range(run.updates_due(run.updates)):
            run.log_update({"loss": torch.tensor(1.0 / run.agent_steps), "trace_length": torch.tensor(2.0)})
        run.after_step(lambda: {"agent": {"steps": run.agent_steps}})


def make(directory: Path, **changes: object) -> Run:
    directory.mkdir(exist_ok=True)
    return Run(directory, replace(CONFIG, **changes), title="A title", frames_per_agent_step=4, levels={})


def logged(directory: Path) -> list[dict]:
    """Return the rows of metrics, without what is the machine's."""
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("machine/")} for line in lines]


def test_rows_are_logged_at_the_cadence_with_means_over_updates(tmp_path) -> None:
    run = make(tmp_path)
    run.gauges["epsilon"] = lambda: run.agent_steps / 1000
    with run:
        steps(run, 1000)
    table = logged(tmp_path)
    assert [row["agent_steps"] for row in table] == [20, 40, 60, 80, 100]
    assert [row["frames"] for row in table] == [80, 160, 240, 320, 400]
    assert [row["updates"] for row in table] == [0, 10, 20, 30, 40]
    assert [row["epsilon"] for row in table] == [0.02, 0.04, 0.06, 0.08, 0.1]
    assert "loss" not in table[0]
    expected = np.mean([[1 / step] * 2 for step in range(24, 41, 4)])
    assert table[1]["loss"] == pytest.approx(expected, rel=1e-6)
    assert table[-1]["replay_ratio"] == 0.5


def test_machine_metrics_tell_where_the_time_went(tmp_path) -> None:
    run = make(tmp_path)
    with run:
        for _ in range(5):
            with run.timed("env"):
                sum(range(20_000))
            run.count(rows(), [])
        run.after_step(dict)
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert 0 < row["machine/share_env"] <= 1
    assert row["machine/agent_steps_per_s"] > 0
    assert row["machine/peak_memory_mb"] > 50


def test_no_more_time_is_spent_than_there_was_however_long_a_row_takes(tmp_path) -> None:
    run = make(tmp_path, log_every_agent_steps=4)
    run.gauges["slow"] = lambda: sum(range(300_000))
    with run:
        for _ in range(4):
            with run.timed("env"):
                run.count(rows(), [])
            run.after_step(dict)
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines()[1:]:
        shares = [number for name, number in json.loads(line).items() if name.startswith("machine/share_")]
        assert sum(shares) <= 1


def test_only_valid_rows_are_agent_steps(tmp_path) -> None:
    run = make(tmp_path)
    with run:
        run.count(rows(4), [])
        run.count(rows(1), [])
    assert run.agent_steps == 5


def test_raw_returns_of_full_games_are_listed(tmp_path) -> None:
    run = make(tmp_path)
    with run:
        run.count(rows(), [])
        run.count(rows(), [Episode(2, -21.0, 700), Episode(3, 0.1 + 0.2, 5)])
        run.after_step(dict)
    with (tmp_path / "episodes.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [float(row["episode_return"]) for row in found] == [-21.0, 0.1 + 0.2]
    assert found[0] == {
        "agent_steps": "8", "frames": "32", "stream": "2", "episode_return": "-21.0", "length_agent_steps": "700"
    }  # fmt: skip


def test_what_is_not_finite_becomes_null(tmp_path) -> None:
    run = make(tmp_path, log_every_agent_steps=4)
    with run:
        run.count(rows(), [])
        run.log_update({"loss": torch.tensor(math.nan), "fine": torch.tensor(1.0)})
        run.after_step(dict)
    row = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
    assert row["loss"] is None
    assert row["fine"] == 1.0


def test_checkpoints_come_at_their_cadence_and_at_the_end(tmp_path) -> None:
    saved = []
    run = make(tmp_path, keep_checkpoints=9)
    with run:
        while not run.done:
            run.count(rows(), [])
            run.after_step(lambda: saved.append(run.agent_steps) or {})
    assert saved == [40, 80, 100]
    assert (tmp_path / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("at", [4, 40, 76])
def test_a_run_cut_off_anywhere_ends_up_with_the_files_of_one_that_was_not(tmp_path, at: int) -> None:
    with make(tmp_path / "whole") as whole:
        steps(whole, 1000)
    first = make(tmp_path / "cut", checkpoint_every_agent_steps=at)
    with first:
        steps(first, at)
        state = first.state_dict()
        steps(first, at + 16)  # what came after the checkpoint is lost
    second = make(tmp_path / "cut")
    second.load_state_dict(state)
    with second:
        steps(second, 1000)
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")
    assert (tmp_path / "cut" / "episodes.csv").read_bytes() == (tmp_path / "whole" / "episodes.csv").read_bytes()
    assert second.meter.wall_s > state["wall_s"]


def test_a_log_that_lost_rows_is_not_gone_on_with(tmp_path) -> None:
    run = make(tmp_path)
    with run:
        steps(run, 60)
        state = run.state_dict()
    (tmp_path / "metrics.jsonl").write_text("")
    again = make(tmp_path)
    with pytest.raises(ConfigError, match=r"metrics\.jsonl is shorter than it was"):
        again.load_state_dict(state)
    again.logger.close()


def test_two_processes_do_not_write_one_run(tmp_path) -> None:
    refused = pytest.raises(ConfigError, match="is being written by another process")
    with locked(tmp_path), refused, locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_signal_that_comes_late_in_a_step_is_served_in_the_next(tmp_path) -> None:
    """Else the run would end without a checkpoint, and say that there was one."""

    class Late(int):
        def __rfloordiv__(self, other: int) -> int:
            if other == 8:
                signal.raise_signal(signal.SIGTERM)
            return other // int(self)

    run = make(tmp_path)
    run.config = replace(run.config, checkpoint_every_agent_steps=Late(50))
    with run:
        steps(run, 8)
        assert run.signal == signal.SIGTERM
        assert (run.done, run.saved_at) == (False, None)
        steps(run, 12)
        assert (run.done, run.interrupted, run.saved_at) == (True, True, 12)


def test_a_signal_is_served_though_nobody_reads_what_is_said(tmp_path, monkeypatch) -> None:
    """`tee` dies of the same Ctrl-C."""

    def broken(*_: object) -> None:
        raise BrokenPipeError

    run = make(tmp_path)
    monkeypatch.setattr("offpol.run.os.write", broken)
    with run:
        signal.raise_signal(signal.SIGINT)
        steps(run, 4)
    assert (run.interrupted, run.saved_at) == (True, 4)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_with_a_checkpoint(tmp_path, number: int, capfd) -> None:
    before = signal.getsignal(number)
    run = make(tmp_path)
    with run:
        run.count(rows(), [])
        signal.raise_signal(number)
        assert not run.done
        run.after_step(lambda: {"agent": {}})
        assert run.done
        assert run.interrupted
    assert run.signal == number
    assert (tmp_path / "checkpoints" / "000001" / "run.pt").exists()
    assert "Finishing this step" in capfd.readouterr().err
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_after_a_signal_stops_at_once_and_sigterm_changes_nothing(tmp_path, first: int) -> None:
    """Clusters send SIGTERM to a bench and to its runs, and the bench passes it on."""
    run = make(tmp_path)
    with run:
        signal.raise_signal(first)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert not (tmp_path / "checkpoints").exists()


def test_a_log_tells_the_time_left_only_by_the_speed_of_learning(capfd) -> None:
    progress = Progress(100, 0, learning_starts=50)
    said = []
    for agent_steps in (20, 60, 80, 100):
        progress._last_line = (progress._last_line[0] - 1000, progress._last_line[1])  # as if some time had passed
        progress.update(agent_steps)
        progress.show({})
        said.append(capfd.readouterr().err)
    assert ["learning from 50 on" in line for line in said] == [True, True, False, False]
    assert [" left" in line for line in said] == [False, False, True, True]


@pytest.mark.parametrize(
    ("name", "value"),
    [("agent_steps", 0), ("num_envs", 0), ("replay_ratio", -1.0), ("eval_episodes", -1), ("eval_epsilon", 1.5),
     ("learning_starts_agent_steps", -1), ("torch_threads", 0), ("torch_threads", 100_000)],
)  # fmt: skip
def test_senseless_settings_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        replace(CONFIG, **{name: value})


def test_files_that_cannot_be_flushed_are_closed_and_told_once(tmp_path) -> None:
    """A second error would hide what the first one is explained by."""
    logger = Logger(tmp_path)
    logger.metrics(0, {"loss": 1.0})
    logger.episodes_file.close()
    logger.episodes_file = open("/dev/full", "wb")  # noqa: SIM115
    logger.episode(1, 2, 3, 4.0, 5)
    with pytest.raises(OSError, match="No space left"):
        logger.close()
    assert logger.metrics_file.closed
    assert logger.episodes_file.closed
    logger.close()


def test_policy_lag_and_sample_age_are_histograms_for_tensorboard(tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with make(tmp_path) as run:
        for age in (1.0, 2.0, torch.nan):  # of a row that is not valid
            run.log_values("sample_age_updates", torch.tensor([age, 7.0]))
        steps(run, until=100)
    events = EventAccumulator(str(tmp_path / "tensorboard"), {"histograms": 0})
    events.Reload()
    assert {*events.Tags()["histograms"]} == {"policy_lag_updates", "sample_age_updates"}
    (ages, *_) = events.Histograms("sample_age_updates")
    assert (ages.histogram_value.num, ages.histogram_value.min, ages.histogram_value.max) == (5, 1, 7)
    lags = events.Histograms("policy_lag_updates")
    assert [each.step for each in lags] == [20, 40, 60, 80, 100]
    assert all(each.histogram_value.num == 20 for each in lags)
