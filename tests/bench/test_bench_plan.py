"""What a bench finds finished, goes on with and starts; how long it says that it will take."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from fake_runs import write_plan, write_run

from offpol.bench.plan import Paces, makespan, tasks
from offpol.bench.suite import Job, expand, load_suite
from offpol.bench.view import View, plan_text, total_text
from offpol.cli.command_line import parse_assignments
from offpol.config import conf_dir
from offpol.errors import ConfigError
from offpol.record.bench_plan import read_plan
from offpol.record.run_results import find_runs
from offpol.record.run_summary import duration


@pytest.fixture(scope="module")
def jobs() -> list[Job]:
    return expand(load_suite("s6"), ["env.game=Pong,Krull", "seed=0,1,2", "trace=retrace,n_step"])


def pick(jobs: list[Job], label: str, game: str, seed: int) -> Job:
    (job,) = [job for job in jobs if (job.label, job.game, job.seed) == (f"trace={label}", game, seed)]
    return job


def planned(jobs: list[Job], out: Path) -> dict[tuple[str, str, int], tuple[str, int, str]]:
    return {
        (job.label.partition("=")[2], job.game, job.seed): (task.state, task.agent_steps, task.directory.name)
        for job, task in zip(jobs, tasks(jobs, find_runs([out]), out), strict=True)
    }


def test_runs_are_known_by_what_they_are_wherever_they_lie(jobs: list[Job], tmp_path: Path) -> None:
    write_run(tmp_path / "any" / "place", pick(jobs, "retrace", "Pong", 0), 3.0)
    write_run(tmp_path / "other", pick(jobs, "retrace", "Pong", 1), 3.0, reached=0.4)
    states = planned(jobs, tmp_path)
    assert states["retrace", "Pong", 0] == ("finished", 100_000, "place")
    assert states["retrace", "Pong", 1] == ("resume", 40_000, "other")
    rest = {key: value for key, value in states.items() if key[:2] != ("retrace", "Pong")}
    assert {value[0] for value in rest.values()} == {"start"}
    folders = {task.directory for task in tasks(jobs, [], tmp_path)}
    assert len(folders) == len(jobs)


def test_what_began_without_a_checkpoint_starts_again_beside_it(jobs: list[Job], tmp_path: Path) -> None:
    job = pick(jobs, "n_step", "Krull", 2)
    (first,) = tasks([job], [], tmp_path)
    write_run(first.directory, job, None, reached=0.0)
    (again,) = tasks([job], find_runs([tmp_path]), tmp_path)
    assert (again.state, again.agent_steps) == ("start", 0)
    assert again.directory.name == "seed2-again1"
    write_run(again.directory, job, 5.0)
    assert tasks([job], find_runs([tmp_path]), tmp_path)[0].state == "finished"


def test_trained_but_not_evaluated_is_not_finished(jobs: list[Job], tmp_path: Path) -> None:
    job = pick(jobs, "retrace", "Pong", 0)
    run = write_run(tmp_path / "run", job, 1.0)
    (run / "evaluation.json").unlink()
    assert planned([job], tmp_path)["retrace", "Pong", 0] == ("resume", 100_000, "run")
    early = {"agent_steps": 50_000, "epsilon": 0.0, "mean": 99.0, "episodes": 5}
    (run / "evaluation.json").write_text(json.dumps(early))  # of a run that was since made longer
    assert planned([job], tmp_path)["retrace", "Pong", 0][0] == "resume"


def test_a_run_goes_on_where_it_is_asked_to(jobs: list[Job], tmp_path: Path) -> None:
    """On another device, and back; only what is recorded with its draws needs the replay to be there."""
    saved = pick(jobs, "retrace", "Pong", 0)
    run = write_run(tmp_path / "run", saved, None, reached=0.4)

    def arguments(replay: str, **wanted: object) -> list[str]:
        cfg = {**saved.cfg, "run": {**saved.cfg["run"], **wanted}}
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["replay"]["_target_"] = f"offpol.replay.{replay}"
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        (task,) = tasks([replace(saved, cfg=cfg)], find_runs([tmp_path]), tmp_path)
        return task.arguments("run.torch_threads=1")

    here = ["run.torch_threads=1", f"resume={run}"]
    gpu = {"device": "cuda", "cuda_graph": True}
    assert arguments("prioritized.Prioritized") == here
    assert arguments("prioritized.Prioritized", **gpu) == ['run.device="cuda"', *here]
    assert arguments("on_device.OnDevice", **gpu) == ['run.device="cuda"', "run.cuda_graph=true", *here]


def test_a_run_is_called_with_its_folder_whatever_its_name(jobs: list[Job]) -> None:
    place = Path("runs/a b,c=[d]/it's")
    (task,) = tasks(jobs[:1], [], place)
    given = task.arguments("run.torch_threads=1", config_dir="my_conf")
    assert given[:2] == ["--config-dir", "my_conf"]
    assert [*task.job.overrides, "run.torch_threads=1"] == given[2:-1]
    assert parse_assignments(given[-1:]) == {"hydra.run.dir": str(task.directory)}


def test_a_plan_remembers_what_was_asked_for(jobs: list[Job], tmp_path: Path) -> None:
    write_plan(tmp_path, "s6", jobs[:1])
    write_plan(tmp_path, "s6", jobs)
    plan = read_plan(tmp_path / "bench.json")
    assert set(plan) == {job.agent for job in jobs}
    assert {asked.label for asked in plan.values()} == {"trace=retrace", "trace=n_step"}
    assert all(asked.runs == {(g, s) for g in ("Pong", "Krull") for s in (0, 1, 2)} for asked in plan.values())


def test_a_plan_knows_agents_whatever_their_keys_were_called(jobs: list[Job], tmp_path: Path) -> None:
    write_plan(tmp_path, "s6", jobs)
    before, plan = read_plan(tmp_path / "bench.json"), json.loads((tmp_path / "bench.json").read_text())
    for agent in plan["agents"]:
        agent["cfg"]["topology"]["measure_every_updates"] = agent["cfg"]["run"].pop("measure_every_updates")
    (tmp_path / "bench.json").write_text(json.dumps(plan) + " ")
    assert read_plan(tmp_path / "bench.json") == before
    plan["agents"] += [{**agent, "runs": [["Pong", 9]]} for agent in plan["agents"]]  # asked when a key still mattered
    (tmp_path / "bench.json").write_text(json.dumps(plan))
    assert {len(asked.runs) for asked in read_plan(tmp_path / "bench.json").values()} == {7}
    write_plan(tmp_path, "s6", jobs[:1])
    assert {len(asked.runs) for asked in read_plan(tmp_path / "bench.json").values()} == {7}
    (tmp_path / "bench.json").write_text('{"name": "of another tool"}')
    with pytest.raises(ConfigError, match=r"bench\.json is no plan of offpol-bench"):
        read_plan(tmp_path / "bench.json")
    (tmp_path / "bench.json").write_text('{"suite": "s6", "agents": {"abc": {}}}')
    with pytest.raises(ConfigError, match=r"bench\.json is an earlier offpol's: move it away"):
        read_plan(tmp_path / "bench.json")


def test_runs_that_were_kept_for_long_tell_time(jobs: list[Job]) -> None:
    """Their configs lack what was not there yet."""
    found = list(find_runs([conf_dir().parent / "runs" / "published"]))
    assert any("compile" not in run.cfg["run"] for run in found)
    assert Paces(found).of(found[0].cfg) is not None


def test_time_is_told_by_runs_like_these(jobs: list[Job], tmp_path: Path) -> None:
    todo = tasks(jobs, [], tmp_path)
    assert "nothing is known of how long" in total_text(todo, Paces(), 2)
    write_run(tmp_path / "a", pick(jobs, "retrace", "Pong", 0), 3.0, speed=100.0)
    write_run(tmp_path / "b", pick(jobs, "retrace", "Krull", 0), 3.0, speed=50.0)
    paces = Paces(find_runs([tmp_path]))
    seconds = {
        (game, label): paces.seconds(tasks([pick(jobs, label, game, 1)], [], tmp_path)[0])
        for game in ("Pong", "Krull") for label in ("retrace", "n_step")
    }  # fmt: skip
    assert seconds["Pong", "retrace"] == pytest.approx(1000, abs=1)  # by the other seed in the same game
    assert seconds["Krull", "retrace"] == pytest.approx(2000, abs=1)
    assert seconds["Pong", "n_step"] is None  # another trace was never timed
    (short,) = expand(load_suite("s6"), ["trace=retrace", "env.game=Boxing", "seed=0", "run.agent_steps=7500"])
    assert paces.seconds(tasks([short], [], tmp_path)[0]) == pytest.approx(100, abs=1)  # by the mean of both games
    text = plan_text(tasks(jobs, find_runs([tmp_path]), tmp_path), paces, 2)
    assert "trace=retrace  Pong: seed 0 finished, seed 1 start, seed 2 start  (33 min)" in text
    assert "trace=n_step  Krull: seed 0 start, seed 1 start, seed 2 start  (?)" in text
    assert "12 runs: 2 finished, 0 to go on, 10 to start; 1,000,000 agent steps to go, 2 at a time: about" in text
    assert "taking 6 unmeasured runs for average ones" in text


def test_the_last_to_end_decides() -> None:
    assert makespan([3, 3, 3], 2) == 6
    assert makespan([1, 1, 5], 2) == 6
    assert makespan([], 3) == 0
    said = ["?", "75 s", "10 min", "2.0 h", "4.6 days"]
    assert [duration(s) for s in (None, 75, 600, 7200, 400_000)] == said


def test_the_table_is_redrawn_in_place_on_a_terminal(jobs: list[Job], tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("offpol.bench.view.REDRAW_EVERY_S", 0.0)
    job = pick(jobs, "retrace", "Pong", 0)
    write_run(tmp_path / "run", job, None, reached=0.5, speed=100.0)
    (task,) = tasks([job], find_runs([tmp_path]), tmp_path)
    view = View("s6", 3)
    view.is_terminal = True
    for _ in range(2):
        view.show([task], tasks([pick(jobs, "n_step", "Pong", 0)], [], tmp_path), 1, 0, Paces(), 1)
    view.say("a line that stays")
    first, second, stays = capsys.readouterr().out.split("\x1b[2F\x1b[J")
    assert first == second
    head, row = first.splitlines()
    assert head == "s6: 1/3 done, 1 running, 1 waiting, 0 failed; 0 s, about 17 min to go"
    assert " ".join(row.split()) == "trace=retrace Pong seed 0 50% 100 steps/s return 0.0 8 min left"
    assert stays == "a line that stays\n"


@pytest.mark.parametrize(("columns", "lines"), [(40, 30), (80, 4)])
def test_the_table_never_outgrows_the_terminal(
    jobs: list[Job], tmp_path: Path, monkeypatch, capsys, columns: int, lines: int
) -> None:
    """What is wrapped or scrolled away cannot be drawn over."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(lines))
    view = View("s6", 12)
    view.is_terminal = True
    running = tasks(jobs[:6], [], tmp_path)
    view.show(running, [], 0, 0, Paces(), 6)
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == min(7, lines - 1)
    assert max(map(len, shown)) < columns
    assert ("and 5 more" in shown[-1]) == (lines == 4)
