"""No silent hang, no silent loss: processes are killed, envs raise and sleep; whole runs, from outside."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command import TINY
from living import folders_of_ray, living
from test_data_parallel import ENVIRONMENT, TORCHRUN

from offpol.record import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
RAY = ("topology=ray_workers", "topology.num_workers=2", "topology.chunk_steps=5")
KINDS = {
    "sync": (),
    "threads": ("topology=threads",),
    "ray_learner": RAY,
    "ray_worker": RAY,
    "ray_raylet": RAY,
    "ray_gcs_server": RAY,
    "first_of_two": (),
    "second_of_two": (),
    "launcher_of_two": (),
}
ORPHANS_GONE_S = 120.0
FAULTY = ("env._target_=faulty.Faulty", "+env.at_step=1000")


@pytest.fixture(autouse=True)
def _needs_ray(request) -> None:
    if "ray" in request.node.name:
        pytest.importorskip("ray")


def start(folder: Path, *arguments: str, launcher: tuple[str, ...] = (sys.executable,)) -> subprocess.Popen:
    """Start a run in a session of its own."""
    with (folder / "output").open("a") as output:
        return subprocess.Popen(
            [*launcher, "-m", "offpol.main", *arguments], cwd=folder, stdout=output, stderr=output, env=ENVIRONMENT,
            start_new_session=True,
        )  # fmt: skip


def nothing_left(process: subprocess.Popen) -> None:
    """Wait until all of a run's processes have gone; two helpers of Ray notice after a minute that the others are."""
    wait_for(lambda: not living(process.pid), ORPHANS_GONE_S)


def wait_for(what: Callable[[], object], seconds: float) -> object:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "this took too long"
        time.sleep(0.2)
    return found


def rows(folder: Path) -> list[dict]:
    path = folder / "run" / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def victim(kind: str, process: subprocess.Popen) -> int:
    """Return the process to kill."""
    if kind == "ray_worker":
        return random.choice([pid for pid, args in living(process.pid).items() if args.startswith("ray::Worker")])
    if kind in ("ray_raylet", "ray_gcs_server"):
        program = kind.removeprefix("ray_")
        return next(p for p in living(process.pid) if Path(f"/proc/{p}/exe").readlink().name == program)
    if kind in ("first_of_two", "second_of_two"):
        rank = {"first_of_two": b"RANK=0", "second_of_two": b"RANK=1"}[kind]
        alive = living(process.pid)
        return next(p for p in alive if rank in Path(f"/proc/{p}/environ").read_bytes().split(b"\0"))
    return process.pid


@pytest.mark.parametrize(("number", "kind"), list(itertools.product(range(20), KINDS))[:20])
def test_killed_at_a_random_moment(tmp_path, number: int, kind: str) -> None:
    random.seed(number)
    launcher = TORCHRUN if kind.endswith("_of_two") else (sys.executable,)
    job = (*TINY, *KINDS[kind], "run.agent_steps=10000000", "run.replay_ratio=0.05", "run.eval_episodes=0")
    process = start(tmp_path, *job, "hydra.run.dir=run", launcher=launcher)
    wait_for(lambda: len(rows(tmp_path)) > 5 or process.poll() is not None, 300)
    time.sleep(random.uniform(0, 3))
    alive = living(process.pid)
    os.kill(victim(kind, process), signal.SIGKILL)
    if kind == "ray_worker":  # the run goes on without it
        seen = rows(tmp_path)[-1]["agent_steps"]
        lost = wait_for(lambda: [r for r in rows(tmp_path) if r["rows_lost"] and r["agent_steps"] > seen + 500], 300)
        assert lost[-1]["rows_lost"] == 5 * 2 + 2
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130
    else:
        assert process.wait(timeout=120) != 0
    if kind in ("ray_raylet", "ray_gcs_server"):
        said = (tmp_path / "output").read_text()
        assert f"Ray's own {kind.removeprefix('ray_')} died, and its workers with that; the checkpoint at" in said
    nothing_left(process)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in alive), ORPHANS_GONE_S)  # of other sessions too
    found = checkpoint.load_newest(tmp_path / "run" / "checkpoints")
    assert found.lost == []
    again = start(tmp_path, "resume=run", f"run.agent_steps={found.about['agent_steps'] + 300}", launcher=launcher)
    assert again.wait(timeout=300) == 0, (tmp_path / "output").read_text()
    assert rows(tmp_path)[-1]["agent_steps"] >= found.about["agent_steps"] + 300
    nothing_left(again)
    assert folders_of_ray(process.pid) + folders_of_ray(again.pid) == []


@pytest.mark.parametrize("fault", ["raise", "sleep", "die"])
def test_a_ray_worker_that_fails_once_is_replaced(tmp_path, fault: str) -> None:
    job = (*TINY, *RAY, *FAULTY, f"+env.fault={fault}", "+env.marker=failed", "topology.deadline_s=60.0")
    process = start(tmp_path, *job, "run.agent_steps=6000", "run.replay_ratio=0.02", "hydra.run.dir=run")
    assert process.wait(timeout=600) == 0, (tmp_path / "output").read_text()
    output = (tmp_path / "output").read_text()
    assert "12 rows are lost. Ray worker" in output
    assert {"raise": "the emulator broke", "sleep": "gave no rows within", "die": "died"}[fault] in output
    assert rows(tmp_path)[-1]["rows_lost"] == 12
    nothing_left(process)


@pytest.mark.parametrize("fault", ["raise", "sleep", "die"])
def test_a_ray_worker_that_fails_where_none_is_replaced_ends_the_run_by_name(tmp_path, fault: str) -> None:
    job = (*TINY, *RAY, *FAULTY, f"+env.fault={fault}", "+env.marker=null", "topology.deadline_s=60.0")
    process = start(
        tmp_path, *job, "run.agent_steps=100000", "run.replay_ratio=0.02", "topology.max_restarts=0",
        "hydra.run.dir=run",
    )  # fmt: skip
    assert process.wait(timeout=600) == 1
    output = (tmp_path / "output").read_text()
    assert "The learner was waiting for its chunk, and for" in output
    assert "topology.max_restarts is 0" in output
    assert "the checkpoint at" in output
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints").lost == []
    nothing_left(process)


@pytest.mark.parametrize("fault", ["raise", "sleep"])
def test_an_actor_thread_that_fails_ends_the_run_by_name(tmp_path, fault: str) -> None:
    job = (*TINY, "topology=threads", *FAULTY, f"+env.fault={fault}", "+env.marker=null")
    process = start(tmp_path, *job, "run.agent_steps=100000", "topology.deadline_s=20.0", "hydra.run.dir=run")
    assert process.wait(timeout=300) == 1
    output = (tmp_path / "output").read_text()
    said = {"raise": "The actor died in 'stepping the envs'", "sleep": "hangs in 'stepping the envs'"}
    assert said[fault] in output
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints").lost == []
    nothing_left(process)
