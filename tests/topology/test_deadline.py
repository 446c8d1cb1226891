"""What hangs in an env ends the run, by name."""

import errno
import subprocess
import sys
import threading
import time

import pytest
import torch
from command import TINY
from test_conf import composed
from test_data_parallel import ENVIRONMENT

from offpol import assembly, deadline
from offpol.actor import Actor
from offpol.deadline import Deadline


@pytest.fixture
def ended(monkeypatch) -> threading.Event:
    """Is set where the process would have ended."""
    event = threading.Event()
    monkeypatch.setattr(deadline.os, "_exit", lambda code: event.set())
    return event


def test_what_takes_too_long_is_said_with_where_it_is(ended: threading.Event, capfd) -> None:
    watched = Deadline(0.05, lambda: "the env hangs")
    with watched:
        assert ended.wait(10)
    watched.close()
    said = capfd.readouterr().err
    assert said.rstrip().endswith("offpol: the env hangs")
    assert "assert ended.wait(10)" in said


def test_many_short_steps_and_waits_between_them_end_nothing(ended: threading.Event) -> None:
    watched = Deadline(0.2, lambda: "")
    for _ in range(40):
        with watched:
            time.sleep(0.01)
    time.sleep(0.3)
    watched.close()
    assert not ended.is_set()


def test_envs_that_take_for_ever_to_start_end_it(ended: threading.Event, monkeypatch, capfd) -> None:
    monkeypatch.setattr(deadline, "SLOWEST_START_S", 0.05)
    with deadline.answering(0.02, "start"):
        assert ended.wait(10)
    assert "takes longer than 0.05 s to start: mend it, or raise topology.deadline_s" in capfd.readouterr().err


class Hanging:
    def __init__(self, until: threading.Event) -> None:
        self.until = until

    def close(self) -> None:
        assert self.until.wait(10)


def test_what_hangs_while_it_is_closed_is_ended_too(ended: threading.Event, monkeypatch, capfd) -> None:
    monkeypatch.setattr(deadline, "SLOWEST_START_S", 0.05)
    with deadline.closing_envs(Hanging(ended), 0.02):
        time.sleep(0.2)
        assert not ended.is_set()
    assert "takes longer than 0.05 s to close: mend it, or raise topology.deadline_s" in capfd.readouterr().err


def test_what_hangs_while_it_is_closed_hides_no_error(ended: threading.Event, monkeypatch) -> None:
    monkeypatch.setattr(deadline, "BROKEN_CLOSE_S", 0.05)
    over = threading.Event()
    with pytest.raises(OSError, match="broke"), deadline.closing_envs(Hanging(over), 0.02):
        raise OSError("broke")
    over.set()
    assert not ended.is_set()


def test_it_ends_even_where_nothing_can_be_said(ended: threading.Event, monkeypatch) -> None:
    def full(text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(deadline, "tell", full)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    watched = Deadline(0.05, lambda: "the env hangs")
    with watched:
        assert ended.wait(10)
    watched.close()


def test_envs_that_hang_while_they_are_brought_back_end_it(ended: threading.Event, monkeypatch, capfd) -> None:
    monkeypatch.setattr(deadline, "SLOWEST_START_S", 0.01)
    cfg = composed(*TINY, "topology.deadline_s=0.01")
    actors = assembly.Actors(cfg, assembly.env_spec(composed(*TINY)))
    monkeypatch.setattr(Actor, "load_state_dict", lambda self, state: ended.wait(10))
    half = torch.full((1, 2), 0.5)
    actors.build(lambda obs: (half, half), state={})
    assert "takes longer than 0.1 s to play its saved actions again" in capfd.readouterr().err


def test_a_person_at_a_debugger_has_time(ended: threading.Event) -> None:
    debugger: dict = {"__name__": "pdb", "time": time}
    exec("def prompt():\n    time.sleep(0.5)", debugger)
    watched = Deadline(0.1, lambda: "")
    with watched:
        debugger["prompt"]()
        assert not ended.is_set()
        assert ended.wait(10)
    watched.close()


def test_no_thread_waits_for_ever() -> None:
    before = threading.active_count()
    Deadline(float("inf"), lambda: "")
    assert threading.active_count() == before
    with pytest.raises(ValueError, match="deadline_s must be positive, but is 0"):
        Deadline(0.0, lambda: "")


IN_TURNS = ("topology=threads", "topology.max_policy_lag=0")


@pytest.mark.parametrize(
    ("topology", "said"),
    [((), "Chain-8 hangs at agent step "), (IN_TURNS, "hangs in 'stepping the envs' at agent step ")],
)
def test_a_run_whose_env_hangs_says_where_to_go_on(tmp_path, topology, said) -> None:
    def offpol(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "offpol.main", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)

    fault = ("env._target_=faulty.Faulty", "+env.at_step=80", "+env.fault=sleep", "+env.marker=hung")
    done = offpol(*TINY, *topology, *fault, "topology.deadline_s=1.0", "hydra.run.dir=run")
    assert done.returncode == 1
    assert "time.sleep(1e6)" in done.stderr
    assert said in done.stderr
    assert "is whole: offpol resume=run" in done.stderr
    assert offpol("resume=run", "topology.deadline_s=9.0").returncode == 0
