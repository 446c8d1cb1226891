"""Acting beside learning: the same run as sync at lag 0, a fixed lag otherwise, and no silent hang."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from command import call
from test_resume import JOB, assert_same_run, interrupt_at, metrics

from offpol import cpu, main
from offpol.actor import Actor
from offpol.actor_side import ActorThread
from offpol.agent import Agent
from offpol.env.chain import Chain
from offpol.record import checkpoint
from offpol.run import Run

THREADS = (*JOB, "topology=threads", "topology.deadline_s=60.0")


@pytest.fixture(params=[2, 1], ids=["beside", "in turns"])
def cores(request, monkeypatch) -> int:
    """With one core the only torch thread takes it, so that acting takes turns."""
    monkeypatch.setattr(cpu, "cores", lambda: request.param)
    return request.param


@pytest.fixture
def offpol(request, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    if "cores" not in request.fixturenames:
        monkeypatch.setattr(cpu, "cores", lambda: 2)
    return lambda *arguments: call(main.main, arguments, monkeypatch, capfd)


def no_actor_left() -> bool:
    return not any(thread.name == "actor" and thread.is_alive() for thread in threading.enumerate())


def test_it_waits_for_ever_where_that_is_asked_for(offpol, cores) -> None:
    assert offpol(*JOB, "topology=threads", "topology.deadline_s=inf", "run.agent_steps=80").code == 0


def test_lag_zero_is_the_same_run_as_sync(offpol) -> None:
    assert offpol(*JOB, "hydra.run.dir=sync").code == 0
    assert offpol(*THREADS, "topology.max_policy_lag=0", "hydra.run.dir=threads").code == 0
    states = [checkpoint.load_newest(Path(name, "checkpoints")).state for name in ("sync", "threads")]
    for name, values in states[0]["agent"]["network"].items():
        np.testing.assert_array_equal(values.numpy(), states[1]["agent"]["network"][name].numpy(), err_msg=name)
    assert metrics(Path("sync")) == metrics(Path("threads"))
    assert Path("sync/episodes.csv").read_text() == Path("threads/episodes.csv").read_text()
    assert no_actor_left()


@pytest.mark.parametrize(
    ("lag", "cores", "who", "threads"), [(0, 3, "MainThread", 2), (1, 2, "MainThread", 2), (1, 3, "actor", 1)]
)
def test_who_acts_beside_learning_computes_in_one_thread(offpol, monkeypatch, lag, cores, who, threads) -> None:
    """In turns, it computes with as many as `sync`: which bits come out depends on it."""
    act, seen = Actor.act, set()

    def watched(self, *arguments, **named):
        seen.add((threading.current_thread().name, torch.get_num_threads()))
        return act(self, *arguments, **named)

    monkeypatch.setattr(Actor, "act", watched)
    monkeypatch.setattr(cpu, "cores", lambda: cores)
    job = (*THREADS, f"topology.max_policy_lag={lag}", "run.eval_episodes=0")
    outcome = offpol(*job, "run.torch_threads=2", "hydra.run.dir=run")
    assert outcome.code == 0
    assert seen == {(who, threads)}
    assert torch.get_num_threads() == 2
    assert ("acting takes turns" in outcome.err) == (cores == 2)


def test_it_is_the_same_run_where_no_core_is_free(offpol, monkeypatch) -> None:
    for cores in (2, 1):
        monkeypatch.setattr(cpu, "cores", lambda cores=cores: cores)
        assert offpol(*THREADS, "topology.max_policy_lag=2", f"hydra.run.dir={cores}").code == 0
    assert_same_run(Path("2"), Path("1"))


@pytest.mark.parametrize("lag", [1, 3])
def test_a_lag_repeats_and_resumes_bit_for_bit(offpol, cores, monkeypatch, lag) -> None:
    job = (*THREADS, f"topology.max_policy_lag={lag}")
    assert offpol(*job, "hydra.run.dir=whole").code == 0
    with monkeypatch.context() as patched:
        interrupt_at(222, patched)
        assert offpol(*job, "hydra.run.dir=halves").code == 130
    assert offpol("resume=halves").code == 0
    assert_same_run(Path("whole"), Path("halves"))
    assert no_actor_left()


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_rows_were_acted_by_the_policy_of_exactly_that_many_rounds_ago(offpol, cores, lag) -> None:
    """With one update a round, a row of round k > lag carries the version of round k - lag."""
    job = (*THREADS, f"topology.max_policy_lag={lag}", "run.num_envs=4", "run.replay_ratio=0.25")
    job += ("run.checkpoint_every_agent_steps=1000",)  # one segment
    assert offpol(*job, "hydra.run.dir=run").code == 0
    state = checkpoint.load_newest(Path("run/checkpoints")).state
    rows = state["replay"]["rows"][0]
    version = rows["policy_version"].view(4, -1)[0].numpy()
    valid = rows["valid"].view(4, -1).numpy()
    agent_steps = np.cumsum(valid.sum(0))
    updates_after = np.maximum(0, np.floor((agent_steps - 60) * 0.25)).astype(int)
    known = np.concatenate([np.zeros(1 + lag, int), updates_after])[: len(version)]
    np.testing.assert_array_equal(version, known)


@pytest.mark.parametrize("slower", [Agent, Actor], ids=lambda slower: slower.__name__)
def test_the_replay_ratio_holds_over_any_ten_thousand_steps_whoever_is_slower(offpol, monkeypatch, slower) -> None:
    name = "update" if slower is Agent else "step"
    work, after_step, seen = getattr(slower, name), Run.after_step, []

    def slowed(self, *arguments):
        time.sleep(0.002)
        return work(self, *arguments)

    def counted(self, save):
        seen.append((self.agent_steps, self.updates))
        after_step(self, save)

    monkeypatch.setattr(slower, name, slowed)
    monkeypatch.setattr(Run, "after_step", counted)
    job = (*THREADS, "run.num_envs=40", "run.agent_steps=12000", "run.replay_ratio=0.02", "run.eval_episodes=0")
    job += ("run.learning_starts_agent_steps=400", "run.log_every_agent_steps=5000")
    assert offpol(*job, "run.checkpoint_every_agent_steps=5000", "hydra.run.dir=run").code == 0
    steps, updates = np.array([count for count in seen if count[0] > 400]).T  # from where learning starts
    apart = steps[:, None] - steps
    done = (updates[:, None] - updates)[apart >= 10_000]
    assert len(done) > 500
    np.testing.assert_allclose(done / (0.02 * apart[apart >= 10_000]), 1, atol=0.01)


def test_a_full_queue_waits_and_loses_nothing(offpol, monkeypatch) -> None:
    """The actor stops at the lag's steps, however long the learner takes; Ctrl-C then keeps them for later."""
    job = (*THREADS, "topology.max_policy_lag=2")
    assert offpol(*job, "hydra.run.dir=whole").code == 0
    update, depths = Agent.update, []
    depth, acting = ActorThread.depth, []
    publish = ActorThread.publish

    def publishing(self):
        acting.append(self)
        publish(self)

    def slow(self, *arguments):
        time.sleep(0.02)
        depths.append(depth(acting[-1]))
        return update(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(ActorThread, "publish", publishing)
        patched.setattr(Agent, "update", slow)
        interrupt_at(222, patched)
        assert offpol(*job, "hydra.run.dir=run").code == 130
    assert max(depths) == 2
    assert len(checkpoint.load_newest(Path("run/checkpoints")).state["topology"]["settled"]) == 2
    assert offpol("resume=run").code == 0
    assert_same_run(Path("whole"), Path("run"))
    assert metrics(Path("run"))[-1]["rows_lost"] == 0


def test_an_env_that_raises_ends_the_run_by_name(offpol, cores, monkeypatch) -> None:
    step, calls = Chain.step, []

    def failing(self, action):
        calls.append(1)
        if len(calls) == 40:
            raise OSError("the emulator broke")
        return step(self, action)

    monkeypatch.setattr(Chain, "step", failing)
    outcome = offpol(*THREADS, "hydra.run.dir=run")
    assert outcome.code == 1
    assert "The actor died in 'stepping the envs'" in outcome.err
    assert "the emulator broke" in outcome.err
    assert no_actor_left()


@pytest.mark.parametrize(("allowed", "code"), [(2, 0), (1, 1)])
def test_an_env_that_raises_is_built_anew_as_often_as_is_allowed(offpol, cores, monkeypatch, allowed, code) -> None:
    step, calls = Chain.step, []

    def failing(self, action):
        calls.append(1)
        if len(calls) in (40, 70):
            raise OSError("the emulator broke")
        return step(self, action)

    monkeypatch.setattr(Chain, "step", failing)
    outcome = offpol(*THREADS, f"topology.max_restarts={allowed}", "hydra.run.dir=run")
    assert outcome.code == code
    assert "8 rows are lost. The envs raised, and were started anew" in outcome.err
    assert "the emulator broke" in outcome.err
    assert no_actor_left()
    if code == 0:
        assert metrics(Path("run"))[-1]["rows_lost"] == 16
        assert checkpoint.load_newest(Path("run/checkpoints")).state["topology"]["restarts"] == 2


def test_an_env_that_hangs_ends_the_run_by_the_deadline(offpol, monkeypatch) -> None:
    step, calls, release = Chain.step, [], threading.Event()

    def hanging(self, action):
        calls.append(1)
        if len(calls) == 40:
            release.wait(30)
        return step(self, action)

    monkeypatch.setattr(Chain, "step", hanging)
    began = time.monotonic()
    outcome = offpol(*THREADS, "topology.deadline_s=3.0", "hydra.run.dir=run")
    assert outcome.code == 1
    assert "the actor hangs in 'stepping the envs'" in outcome.err
    assert "release.wait(30)" in outcome.err.partition("The actor stands here:")[2]
    assert time.monotonic() - began < 20
    release.set()


def test_envs_that_are_started_anew_have_longer_than_a_step(offpol, monkeypatch, cores) -> None:
    step, reset, calls = Chain.step, Chain.reset, []

    def failing(self, action):
        calls.append("step")
        if len(calls) == 40:
            raise OSError("the emulator broke")
        return step(self, action)

    def slow(self):
        if "step" in calls:
            time.sleep(1.5)
        return reset(self)

    monkeypatch.setattr(Chain, "step", failing)
    monkeypatch.setattr(Chain, "reset", slow)
    job = (*THREADS, "topology.deadline_s=0.5", "topology.max_restarts=1", "run.eval_episodes=0")
    done = offpol(*job, "hydra.run.dir=run")
    assert done.code == 0, done.err


@pytest.mark.parametrize("wrong", ["max_policy_lag=-1", "deadline_s=0.0", "max_restarts=-1"])
def test_wrong_settings_are_refused(offpol, wrong) -> None:
    outcome = offpol(*THREADS, f"topology.{wrong}", "hydra.run.dir=run")
    assert outcome.code == 2
    assert wrong.split("=")[0] in outcome.err
