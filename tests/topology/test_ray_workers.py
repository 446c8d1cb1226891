"""Acting in Ray processes: what a worker delivers, whole runs, mistakes. (Faults: test_faults.py)"""

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command import TINY, call
from living import folders_of_ray, living
from test_conf import composed

from offpol import main, ray_cluster
from offpol.assembly import build_parts
from offpol.remote_worker import Worker, published

JOB = (*TINY, "topology=ray_workers", "topology.num_workers=2", "topology.chunk_steps=5")


@pytest.fixture
def offpol(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: call(main.main, arguments, monkeypatch, capfd)


def parts_of(tmp_path: Path, *overrides: str):
    return build_parts(composed(*TINY, "behavior.ladder_exponent=7.0", *overrides), tmp_path)


def test_a_worker_acts_by_what_it_is_given_and_says_so(tmp_path) -> None:
    parts = parts_of(tmp_path)
    worker = Worker(parts.actors, worker=1, num_workers=2, restarts=0, chunk_steps=30)
    parts.agent.network.load_state_dict({k: v + 0.5 for k, v in parts.agent.network.state_dict().items()})
    chunk = worker.act(published(parts.agent), policy_version=17, agent_steps=100)
    assert chunk.rows.obs.shape == (30, 2, 8)
    assert (chunk.rows.policy_version == 17).all()
    for name, values in parts.agent.network.state_dict().items():
        np.testing.assert_array_equal(worker.agent.network.state_dict()[name].numpy(), values.numpy())
    ended = (chunk.rows.terminated | chunk.rows.truncated).sum(1)
    assert [sum(step == k for k, _ in chunk.episodes) for step in range(30)] == ended.tolist()
    assert chunk.num_bytes == 30 * 2 * (8 * 4 + 8 + 4 + 1 + 1 + 1 + 4 + 8)


def test_workers_differ_in_random_numbers_and_so_do_those_that_replace_them(tmp_path) -> None:
    parts = parts_of(tmp_path)
    parameters = published(parts.agent)

    def observations(worker: int, restarts: int) -> bytes:
        return Worker(parts.actors, worker, 2, restarts, 40).act(parameters, 0, 0).rows.obs.tobytes()

    seen = [observations(worker, restarts) for worker in range(2) for restarts in range(2)]
    assert len(set(seen)) == 4
    assert observations(1, 1) == seen[3]


def test_the_ladder_of_epsilons_goes_over_all_workers(tmp_path) -> None:
    """A worker's streams explore as the same streams of one actor would."""
    parts = parts_of(tmp_path)
    _, actor = parts.actors.build_worker(1, 2, 0)
    q, pi = torch.tensor([[2.0, 1.0]]).repeat(4, 1), torch.full((4, 2), 0.5)
    whole = parts.behavior.probs(q, pi, 500)
    assert len({row.tolist()[1] for row in whole}) == 4
    torch.testing.assert_close(actor.behavior.probs(q[2:], pi[2:], 500), whole[2:])


def test_workers_of_a_gpu_compute_as_a_cpu_does_best(tmp_path) -> None:
    actors = parts_of(tmp_path).actors
    for device, autocast in (("cuda", "none"), ("cpu", "bfloat16")):  # which an actor on this CPU was asked for
        run = {**actors.cfg["run"], "device": device, "autocast": "bfloat16"}
        agent, _ = replace(actors, cfg={**actors.cfg, "run": run}).build_worker(0, 2, 0)
        assert (agent.acting.device.type, agent.acting.autocast) == ("cpu", autocast)


MISTAKES = {
    "none": (["topology.num_workers=0"], "topology.num_workers is 0, but must be a divisor of run.num_envs (4)"),
    "uneven": (["topology.num_workers=3"], "topology.num_workers is 3, but must be a divisor of run.num_envs (4)"),
    "a typo": (["topology.chunk_step=3"], "no key 'topology.chunk_step': did you mean 'topology.chunk_steps'?"),
    "no steps": (["topology.chunk_steps=0"], "topology: chunk_steps must be at least 1, but is 0."),
    "no time": (["topology.deadline_s=0"], "topology: deadline_s must be positive, but is 0.0:"),
    "a number": (["topology.max_restarts=-1"], "topology: max_restarts must be 0 (end the run) or more, but is -1."),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_in_a_sentence(offpol, mistake) -> None:
    arguments, sentence = MISTAKES[mistake]
    outcome = offpol(*JOB, *arguments, "hydra.run.dir=run")
    assert outcome.code == 2
    assert outcome.err.startswith("offpol: ")
    assert sentence in outcome.err
    assert not Path("run").exists()


def test_without_the_extra_one_sentence_says_how_to_get_it(offpol, monkeypatch) -> None:
    monkeypatch.setattr(ray_cluster.importlib.util, "find_spec", lambda name: None)
    outcome = offpol(*JOB, "hydra.run.dir=run")
    assert (outcome.code, outcome.err) == (
        2,
        'offpol: topology: Ray is not installed: pip install -c constraints.txt -e ".[ray]", '
        "or use topology=threads.\n",
    )


@pytest.mark.timeout(600)
def test_a_run_keeps_its_ratio_and_its_lag_and_leaves_nothing_behind(tmp_path) -> None:
    pytest.importorskip("ray")
    command = [sys.executable, "-m", "offpol.main", *JOB, "hydra.run.dir=run", "topology.max_policy_lag=1"]
    had_settings = Path.home().joinpath(".ray").exists()
    with (tmp_path / "output").open("w") as output:
        run = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=output, start_new_session=True)
    assert run.wait() == 0, (tmp_path / "output").read_text()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        assert row["updates"] == max(0, (row["agent_steps"] - 60) // 4)
        assert row["policy_lag_updates_max"] <= 2 * 2 * 5 * 2 * 0.25 + 10  # two rounds' updates, and unpublished ones
        assert row["machine/queue_depth"] <= 2  # a chunk of each worker: then workers wait
    assert rows[-1]["rows_lost"] == 0
    assert 400 <= rows[-1]["agent_steps"] < 404
    assert living(run.pid) == {}
    assert folders_of_ray(run.pid) == []
    assert Path.home().joinpath(".ray").exists() == had_settings


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_runs_one_after_the_other_in_a_process_have_a_ray_each(tmp_path) -> None:
    pytest.importorskip("ray")
    job = [sys.executable, "-m", "offpol.main", "-m", *JOB, "seed=0,1", "run.eval_episodes=0", "hydra.sweep.dir=mine"]
    done = subprocess.run(job, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("mine/*/metrics.jsonl"))) == 2
    early = "import ray, sys; from offpol.main import main; sys.argv[1:] = " + repr(list(JOB)) + "; main()"
    done = subprocess.run([sys.executable, "-c", early], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Ray was imported in this process before" in done.stderr


HEAD = """
import ray, sys
ray.init(num_cpus=2, include_dashboard=False, _temp_dir=sys.argv[1])
print("at", ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_joins_a_cluster_and_leaves_it_as_it_was(tmp_path) -> None:
    pytest.importorskip("ray")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        tempfile.TemporaryDirectory(dir="/tmp", prefix="head-", ignore_cleanup_errors=True) as folder,
        subprocess.Popen([sys.executable, "-c", HEAD, folder], start_new_session=True, **pipes) as head,
    ):
        address = next(line for line in head.stdout if line.startswith("at ")).split()[1]
        job = [sys.executable, "-m", "offpol.main", *JOB, "hydra.run.dir=run", f"topology.address={address}"]
        done = subprocess.run(job, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert any(args.startswith("ray::") for args in living(head.pid).values())  # it goes on
        wrong = [*job[:-2], "hydra.run.dir=wrong", "topology.address=127.0.0.1:1"]
        refused = subprocess.run(wrong, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert refused.returncode == 2
        assert "topology.address is 127.0.0.1:1, but no Ray answers there" in refused.stderr
