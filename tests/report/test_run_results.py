"""What a run's folder says: scores of the final policy, curves, how far it came."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from fake_runs import write_plan, write_run

from offpol.bench.suite import Job, expand, load_suite
from offpol.checks import check_config
from offpol.cli.saved_config import load_saved
from offpol.errors import ConfigError
from offpol.record.checkpoint import Checkpoints
from offpol.record.run_labels import collect, named, never_begun
from offpol.record.run_results import find_runs, last_row, read_run


@pytest.fixture(scope="module")
def jobs() -> list[Job]:
    return expand(load_suite("s6"), ["env.game=Krull,Boxing", "seed=0,1", "trace=retrace,n_step"])


def test_the_score_is_of_the_final_policy_never_the_best(jobs: list[Job], tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", jobs[0], 2000.0, start=500.0)
    better = {"agent_steps": 50_000, "mean": 9e9, "epsilon": 0.0, "episodes": 100}
    (folder / "evaluation-50000-steps-epsilon-0-seed-3.json").write_text(json.dumps(better))
    run = read_run(folder)
    assert run.score("final_evaluation") == 2000.0
    assert run.finished
    (folder / "evaluation.json").write_text(json.dumps(better))
    assert read_run(folder).score("final_evaluation") is None
    assert not read_run(folder).finished


def test_a_curve_averages_the_games_that_ended_in_a_window_or_stands_still(jobs: list[Job], tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", jobs[0], None, reached=0.5)
    lines = ["agent_steps,frames,stream,episode_return,length_agent_steps"]
    lines += [f"{step},0,0,{value},1" for step, value in ((1500, 10.0), (2000, 20.0), (11_000, 60.0), (50_000, 5.0))]
    (folder / "episodes.csv").write_text("\n".join(lines) + "\n")
    points, mean = read_run(folder).curve
    at = dict(zip(points.tolist(), mean.tolist(), strict=True))
    assert at[2000] == 15.0
    assert at[10_000] == 15.0  # the window is a tenth of 100,000 agent steps
    assert at[12_000] == 60.0  # 2000 has just left it
    assert at[40_000] == 60.0  # no game ended since
    assert at[50_000] == 5.0
    assert np.isnan(at[52_000])  # nobody has been there yet


def test_training_returns_over_the_last_million_frames(jobs: list[Job], tmp_path: Path) -> None:
    (job,) = expand(load_suite("atari57"), ["env.game=Krull", "seed=0", "run.agent_steps=1000000"])
    run = read_run(write_run(tmp_path / "long", job, 1000.0))
    ended, returns = run.episodes.T
    assert run.score("training_1m_frames") == pytest.approx(returns[ended > 750_000].mean())
    assert read_run(write_run(tmp_path / "short", jobs[0], 1000.0)).score("training_1m_frames") is None
    assert read_run(write_run(tmp_path / "cut", job, 1000.0, reached=0.9)).score("training_1m_frames") is None


def test_it_reads_checkpoints_as_they_are_written(jobs: list[Job], tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", jobs[0], None, reached=0.0)
    assert read_run(folder).saved_agent_steps == 0
    Checkpoints(folder / "checkpoints", keep=1).save({"agent": {"a": 1}}, {"agent_steps": 77})
    assert read_run(folder).saved_agent_steps == 77


@pytest.mark.parametrize(("name", "line"), [("metrics.jsonl", '{"agent_steps": 2'), ("episodes.csv", "garbage")])
def test_a_damaged_line_is_told_by_file_and_number(jobs: list[Job], tmp_path: Path, name: str, line: str) -> None:
    folder = write_run(tmp_path / "run", jobs[0], 2000.0)
    lines = (folder / name).read_text().splitlines()
    (folder / name).write_text("\n".join([*lines[:2], line, *lines[3:]]) + "\n")
    with pytest.raises(ConfigError, match=f"{name} is damaged in line 3 .*: put it back"):
        _ = read_run(folder).metrics if name == "metrics.jsonl" else read_run(folder).episodes
    (folder / name).write_text("\n".join([*lines, line]) + "\n")
    if name == "metrics.jsonl":
        with pytest.raises(ConfigError, match=r"metrics.jsonl is damaged in its last line .*: put it back"):
            _ = read_run(folder).last_row


def test_the_last_whole_row_counts(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert last_row(path) == {}
    path.write_text('{"agent_steps": 1}\n{"agent_steps": 2}\n{"agent_st')
    assert last_row(path) == {"agent_steps": 2}
    path.write_text('{"agent_st')
    assert last_row(path) == {}


def test_runs_are_found_below_folders_in_order(jobs: list[Job], tmp_path: Path) -> None:
    for name, job in (("b/2", jobs[1]), ("a", jobs[0])):
        write_run(tmp_path / name, job, 1.0)
    (tmp_path / "a" / "config.yaml.partial").write_text("")
    assert [run.directory.name for run in find_runs([tmp_path])] == ["a", "2"]


# ------------------------------------------------------------------------------------------------ names


def names(*words: object) -> dict[str, set[str]]:
    out: dict[str, set[str]] = {}
    for labelled in named(collect(map(str, words))):
        out.setdefault(labelled.agent, set()).add(labelled.run.directory.name)
    return out


def test_agents_are_named_by_what_only_they_were_told(jobs: list[Job], tmp_path: Path) -> None:
    common = ["env=atari", "run.agent_steps=100000", "seed=0", "env.game=Krull", "hydra.run.dir=x"]
    write_run(tmp_path / "r", jobs[0], 1.0, command=["experiment=default", *common, "trace=retrace"])
    write_run(tmp_path / "n", jobs[1], 1.0, command=["experiment=dqn", *common, "trace=n_step"])
    assert names(tmp_path) == {"default,trace=retrace": {"r"}, "dqn,trace=n_step": {"n"}}
    assert names(tmp_path / "r") == {"default,trace=retrace": {"r"}}  # not the default agent as it is
    write_run(tmp_path / "s", jobs[0], 1.0, command=["-m", "trace=retrace,n_step"])
    assert names(tmp_path / "s") == {"default": {"s"}}


def test_one_command_for_all_tells_agents_apart_by_their_configs(jobs: list[Job], tmp_path: Path) -> None:
    for name, job in (("r", jobs[0]), ("n", jobs[1])):
        write_run(tmp_path / name, job, 1.0, command=["-m", "trace=retrace,n_step", "seed=0,1"])
    found = names(tmp_path)
    assert len(found) == 2
    assert {name for name in found if "trace=retrace" in name and found[name] == {"r"}}


def test_parts_of_ones_own_are_named_by_their_class(jobs: list[Job], tmp_path: Path) -> None:
    def named_so(**traces: str) -> dict[str, set[str]]:
        for folder, target in traces.items():
            cfg = {**jobs[0].cfg, "trace": {"_target_": target}}
            write_run(tmp_path / folder, replace(jobs[0], cfg=cfg), 1.0, command=[])
        return names(*(tmp_path / folder for folder in traces))

    found = named_so(a="__main__.A", b="__main__.B", r="offpol.trace.retrace.Retrace")
    assert found == {"default (trace=A)": {"a"}, "default (trace=B)": {"b"}, "default (trace=retrace)": {"r"}}
    assert set(named_so(x="x.Mine", y="y.Mine")) == {"default (trace=x.Mine)", "default (trace=y.Mine)"}


def test_names_of_ones_own(jobs: list[Job], tmp_path: Path) -> None:
    for name, job in (("r0", jobs[0]), ("r1", jobs[4]), ("n0", jobs[1])):
        write_run(tmp_path / name, job, 1.0)
    found = names(f"mine={tmp_path / 'r0'}", f"mine={tmp_path / 'r1'}", f"theirs={tmp_path / 'n0'}")
    assert found == {"mine": {"r0", "r1"}, "theirs": {"n0"}}


def test_of_two_runs_that_are_the_same_the_furthest_counts(jobs: list[Job], tmp_path: Path) -> None:
    write_run(tmp_path / "seed0", jobs[0], None, reached=0.3)
    write_run(tmp_path / "seed0-again1", jobs[0], 7.0)
    assert names(tmp_path) == {"default,trace=retrace": {"seed0-again1"}}


def test_a_path_without_runs_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        collect([str(tmp_path)])


def test_agents_of_a_plan_without_runs_are_told(jobs: list[Job], tmp_path: Path) -> None:
    write_plan(tmp_path, "s6", jobs)
    write_run(tmp_path / "r", jobs[0], 1.0)
    found = collect([str(tmp_path)])
    assert never_begun([str(tmp_path)], found) == ["trace=n_step"]
    assert never_begun([str(tmp_path / "r")], found) == []  # the others may lie beside what was asked about
    assert [one.agent for one in named(found)] == ["trace=retrace"]
    assert found[0].asked.games == ["Boxing", "Krull"]


def test_a_run_from_before_a_key_was_renamed_is_the_same_run(tmp_path: Path, jobs: list[Job]) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    for folder in (new, old):
        write_run(folder, jobs[0], 1.0)
    config = yaml.safe_load((old / "config.yaml").read_text())
    config["topology"]["measure_every_updates"] = config["run"].pop("measure_every_updates")
    (old / "config.yaml").write_text(yaml.safe_dump(config))
    assert read_run(old).identity == read_run(new).identity
    assert load_saved(old) == load_saved(new)
    check_config(load_saved(old))


def test_a_run_is_read_for_another_device(tmp_path: Path, jobs: list[Job]) -> None:
    """Whatever its actors computed on: here there may be one device alone."""
    write_run(tmp_path / "r", jobs[0], 1.0)
    config = yaml.safe_load((tmp_path / "r" / "config.yaml").read_text())
    config["run"] |= {"device": "cuda", "actor_device": "cuda:1", "cuda_graph": True, "autocast": "bfloat16"}
    (tmp_path / "r" / "config.yaml").write_text(yaml.safe_dump(config))
    run = load_saved(tmp_path / "r", "cpu")["run"]
    assert (run["device"], run["actor_device"], run["cuda_graph"], run["autocast"]) == ("cpu", None, False, "none")
    assert load_saved(tmp_path / "r", "cuda")["run"]["autocast"] == "bfloat16"
    assert load_saved(tmp_path / "r")["run"]["actor_device"] == "cuda:1"
    del config["run"]
    (tmp_path / "r" / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match="The config has no 'run'"):
        check_config(load_saved(tmp_path / "r", "cpu"))
