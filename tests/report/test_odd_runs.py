"""Reports of runs as they are found: of one name, unequal, damaged, repeated, unfinished."""

import json
from pathlib import Path

import numpy as np
import pytest
from command import call
from fake_runs import write_plan, write_run
from test_report import rows

from offpol.bench.suite import Job, expand, load_suite
from offpol.drawing import COLORS
from offpol.record.run_labels import collect
from offpol.record.run_results import read_run
from offpol.reference_scores import human_random
from offpol.report import command, curves
from offpol.report.figures import legible, styles
from offpol.report.grouping import compare

pytestmark = pytest.mark.usefixtures("no_pictures")


def jobs(*overrides: str) -> list[Job]:
    return expand(load_suite("s6"), ["env.game=Krull,Boxing", "seed=0,1", *overrides])


def normal(job: Job, share: float) -> float:
    low, high = human_random()[job.game]
    return low + share * (high - low)


def report(*words: object, out: Path, published: bool = False) -> str:
    return command.report([str(word) for word in words], out, "t", [], published)


def test_an_agent_called_as_a_published_one_keeps_its_own_scores(tmp_path: Path) -> None:
    for job in expand(load_suite("s6"), ["seed=0,1"]):
        write_run(tmp_path / "runs" / job.game / str(job.seed), job, normal(job, 0.2))
    said = report(f"SPR={tmp_path / 'runs'}", out=tmp_path / "out", published=True)
    assert "SPR (ours) 0.20 [" in said
    found = {(row["agent"], row["measure"]): float(row["value"]) for row in rows(tmp_path / "out" / "aggregates.csv")}
    assert found["SPR", "IQM"] > 1 > found["SPR (ours)", "IQM"]


def test_protocols_that_share_a_title_are_told_apart(tmp_path: Path) -> None:
    for sticky in ("0.0", "0.25"):
        made = jobs("env.protocol.name=house", f"env.protocol.sticky_probability={sticky}")
        write_run(tmp_path / sticky, made[0], 100.0)
    said = report(tmp_path, out=tmp_path / "out")
    assert "(sticky_probability=0.0)" in said
    assert "(sticky_probability=0.25)" in said


def test_a_mean_curve_is_of_the_same_runs_at_each_point(tmp_path: Path) -> None:
    """The weakest seed stops halfway: the others' mean must not jump there."""
    for job in jobs():
        weak = job.seed == 1
        write_run(
            tmp_path / job.game / str(job.seed), job, normal(job, 0.1 if weak else 1.0), reached=0.5 if weak else 1.0
        )
    (comparison,) = compare(collect([str(tmp_path)]), (), False)
    agent = comparison.agents[0].name
    assert [run.seed for run in curves.together(comparison.of(agent, "Krull"))] == [0]
    value = curves._aggregate_curve(comparison, agent)[0]
    assert np.abs(np.diff(value[~np.isnan(value)])).max() < 0.2
    for done in tmp_path.rglob("evaluation.json"):
        done.unlink()
    (comparison,) = compare(collect([str(tmp_path)]), (), False)
    half = len(value) // 2
    assert np.isnan(curves._aggregate_curve(comparison, agent)[0][half + 1 :]).all()  # as far as both have come


def test_reruns_and_commits_are_told(tmp_path: Path) -> None:
    job = jobs()[0]
    for name, score, started in (("b", 1700.0, "2026-01-02"), ("a", 9999.0, "2026-01-03"), ("c", 2500.0, "2026-01-01")):
        folder = write_run(tmp_path / name, job, score, git={"commit": name * 40, "dirty": False})
        info = (folder / "info.json").read_text().replace("{", f'{{"started": "{started}", ', 1)
        (folder / "info.json").write_text(info)
    write_run(tmp_path / "d", jobs()[1], 2000.0)
    said = report(tmp_path, out=tmp_path / "out")
    assert "Krull seed 0: 2 finished reruns of the same config left out" in said
    assert "are of 2 commits: ccccccc, fffffff" in said
    assert {float(row["score"]) for row in rows(tmp_path / "out" / "runs.csv")} == {2500.0, 2000.0}


def test_own_code_that_was_edited_between_runs_is_told(tmp_path: Path) -> None:
    first, second = jobs()[:2]
    folders = [
        write_run(tmp_path / name, job, 1.0 + len(name)) for name, job in (("a", first), ("bb", second), ("ccc", first))
    ]

    def said(*digests: str) -> str:
        for folder, digest in zip(folders, digests, strict=True):
            info = json.loads((folder / "info.json").read_text())
            info["own_code"] = {"trace": {"class": "mine.Mine", "file": "/gone/mine.py", "sha256": digest}}
            (folder / "info.json").write_text(json.dumps(info))
        return report(tmp_path, out=tmp_path / "out")

    edited = "The code of trace (mine.Mine) was edited between or during runs of"
    assert edited not in said("1", "1", "1")
    assert edited in said("1", "2", "1")
    assert edited in said("1", "1", "2")  # the third is a rerun of the first, and left out


def test_a_score_that_is_no_number_is_no_score(tmp_path: Path) -> None:
    for job, score in zip(jobs(), (1.0, 2.0, 3.0, float("nan")), strict=True):
        write_run(tmp_path / job.game / str(job.seed), job, score)
    said = report(tmp_path, out=tmp_path / "out")
    assert "nan" not in said
    assert "Boxing seed 1: the score is no number" in said
    assert "lacks Boxing (seed 1)" in said


def test_a_game_without_a_human_score_is_named(tmp_path: Path) -> None:
    for job in expand(load_suite("s6"), ["env.game=Krull,Adventure", "seed=0"]):
        write_run(tmp_path / job.game, job, 1.0)
    assert "There is no human score of Adventure" in report(tmp_path, out=tmp_path / "out")


def test_each_run_has_its_own_protocol_in_the_file(tmp_path: Path) -> None:
    for job, epsilon, games in zip(jobs("seed=0"), ("0.001", "0.05"), ("100", "7"), strict=True):
        folder = write_run(tmp_path / job.game, job, 1.0)
        other = (folder / "evaluation.json").read_text().replace("0.001", epsilon).replace("100}", games + "}")
        (folder / "evaluation.json").write_text(other)
    report(tmp_path, out=tmp_path / "out")
    found = {row["game"]: row for row in rows(tmp_path / "out" / "runs.csv")}
    assert [found[game]["evaluation_epsilon"] for game in ("Krull", "Boxing")] == ["0.001", "0.05"]
    assert [found[game]["evaluation_episodes"] for game in ("Krull", "Boxing")] == ["100", "7"]
    assert "evaluation_epsilon: 0.001 or 0.05" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(("file", "content"), [
    ("config.yaml", ""), ("config.yaml", "a: [1"), ("config.yaml", "a: 1\n"), ("evaluation.json", ""),
    ("info.json", "{"),
])  # fmt: skip
def test_a_damaged_folder_is_named(file: str, content: str, tmp_path: Path, monkeypatch, capfd) -> None:
    (write_run(tmp_path / "run", jobs()[0], 1.0) / file).write_text(content)
    outcome = call(command.main, (str(tmp_path), "--out", str(tmp_path / "out")), monkeypatch, capfd)
    assert outcome.code == 2
    assert str(tmp_path / "run" / file) in outcome.err
    assert "Traceback" not in outcome.err


def test_a_torn_last_line_of_a_killed_run_is_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", jobs()[0], 1.0)
    whole = read_run(folder).episodes
    for name, line in (("metrics.jsonl", '{"agent_steps": 9'), ("episodes.csv", "9,36,0,125.")):
        with (folder / name).open("a") as file:
            file.write(line)
    assert "Written" in report(tmp_path, out=tmp_path / "out")
    assert np.array_equal(read_run(folder).episodes, whole)


def test_a_damaged_manifest_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", jobs()[0], None, reached=0.5)
    (folder / "checkpoints" / "000004").mkdir()
    (folder / "checkpoints" / "000004" / "manifest.json").write_text('{"abou')
    assert read_run(folder).saved_agent_steps == jobs()[0].cfg["run"]["agent_steps"] // 2


def test_more_agents_than_colors_have_other_lines(tmp_path: Path) -> None:
    for i in range(len(COLORS) + 2):
        write_run(tmp_path / str(i), jobs(f"agent.gamma=0.9{i}")[0], float(i))
    (comparison,) = compare(collect([str(tmp_path)]), (), False)
    looks = [(style["color"], str(style["ls"])) for style in styles(comparison).values()]
    assert len(set(looks)) == len(looks) == len(COLORS) + 2


def test_long_names_stay_apart(tmp_path: Path) -> None:
    names = ["n" * 40 + middle + "m" * 40 for middle in ("retrace", "vtrace1")]
    for name in names:
        write_run(tmp_path / name, jobs()[0], 1.0)
    (comparison,) = compare(collect([f"{name}={tmp_path / name}" for name in names]), (), False)
    assert len({style["label"] for style in styles(comparison).values()}) == 2


def test_what_an_agent_was_never_asked_to_play_is_told(tmp_path: Path) -> None:
    one, other = jobs("env.game=Krull", "trace=retrace"), jobs("trace=n_step")
    write_plan(tmp_path, "s6", [*one, *other])
    for i, job in enumerate([*one, *other]):
        write_run(tmp_path / str(i), job, normal(job, 0.5))
    assert "lacks Boxing (not asked for)." in report(tmp_path, out=tmp_path / "out")


def test_no_interval_is_claimed_where_there_is_none(tmp_path: Path) -> None:
    for job in jobs()[:3]:  # Boxing has one run
        write_run(tmp_path / job.game / str(job.seed), job, normal(job, 0.5))
    assert "(a game has one run, so no interval)" in report(f"widths[64]={tmp_path}", out=tmp_path / "out")


def test_any_name_can_be_drawn(tmp_path: Path) -> None:
    for name in ("a$x_$b", "_mine", "n" * 200):
        write_run(tmp_path / name, jobs()[0], 1.0)
    report(*(f"{name}={tmp_path / name}" for name in ("a$x_$b", "_mine", "n" * 200)), out=tmp_path / "out")
    (tmp_path / "out" / "figures" / "2024-mine.png").touch()
    report(f"a={tmp_path / '_mine'}", out=tmp_path / "out")
    assert (tmp_path / "out" / "figures" / "2024-mine.png").exists()
    assert legible("_mine") == "\u200b_mine"
    assert len(legible("n" * 200)) < 60


def test_only_what_was_asked_for_is_missing(tmp_path: Path) -> None:
    first, second = jobs("env.game=Krull"), jobs("env.game=Boxing", "seed=5")
    write_plan(tmp_path, "s6", first)
    write_plan(tmp_path, "s6", second)
    for job in [*first, *second]:
        write_run(tmp_path / job.game / str(job.seed), job, 1.0)
    assert "lacks" not in report(tmp_path, out=tmp_path / "out")


def test_a_bench_that_has_just_begun_has_a_report(tmp_path: Path) -> None:
    """Published agents have an aggregate, ours have none yet."""
    asked = expand(load_suite("s6"), ["seed=0"])
    write_plan(tmp_path, "s6", asked)
    write_run(tmp_path / "first", asked[0], 1.0)
    said = report(tmp_path, out=tmp_path / "out", published=True)
    assert "no agent has a score in every game, so there is no aggregate" in said
    assert "| SPR" in (tmp_path / "out" / "report.md").read_text()


def test_spellings_of_a_game_are_one_game() -> None:
    one, other = (jobs(f"env.game={game}", "seed=0")[0] for game in ("Krull", "krull"))
    assert one.identity == other.identity
    assert one.identity != jobs("env.game=Boxing", "seed=0")[0].identity
