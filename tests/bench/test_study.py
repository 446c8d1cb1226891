"""The study's scripts: from runs to tables, and the chain's truth."""

import csv
import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from fake_runs import write_plan, write_run

import offpol
from offpol import tabular
from offpol.bench.suite import Suite, expand

ROOT = Path(offpol.__file__).parent.parent / "benchmarks"
GRID = (
    {"one_step": ["trace=one_step", "agent.window=1"], "retrace": ["trace=retrace"]},
    {"fresh": ["replay.capacity=4000"], "old": ["replay.capacity=100000"]},
)
SCORES = {"one_step, fresh": (1.0, 2.0), "one_step, old": (2.0, 4.0), "retrace, fresh": (3.0, 5.0)}


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_runs_become_tables_and_a_figure(tmp_path, monkeypatch) -> None:
    report = script("study_report")
    suite = Suite("mine", ("breakout",), (0, 1), ("experiment=study", "task=minatar", "run.agent_steps=3000"), GRID)
    jobs = expand(suite, [])
    write_plan(tmp_path / "runs", "mine", jobs)
    for i, job in enumerate(jobs):
        score = SCORES.get(job.label, (None, None))[job.seed]
        write_run(tmp_path / "runs" / str(i), job, score, reached=0.5 if score is None else 1.0)
    page = tmp_path / "docs" / "study.md"
    page.parent.mkdir()
    page.write_text("before\n<!-- study core -->\nold tables\n<!-- end -->\nafter\n")
    argv = ["x", str(tmp_path / "runs"), "--name", "core", "--docs", str(page.parent)]
    monkeypatch.setattr("sys.argv", argv)
    report.main()
    text = page.read_text()
    assert text.startswith("before\n<!-- study core -->\n\n6 runs (MinAtar-breakout; seeds 0, 1)")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "2 more are not finished" in text
    assert "old tables" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("| one_step |")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1].startswith("1.50 [1.00, 2.00]")
    assert cells[4].startswith("3.00 [2.00, 4.00]")
    assert cells[3] == cells[6] == "2.50"  # trace length, as the runs logged it
    (line,) = [line for line in text.splitlines() if line.startswith("| retrace |")]
    assert line.endswith("|  |  |  |")  # nothing is finished there
    with (page.parent / "study" / "core.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["operator"], row["age"], row["seed"], float(row["score"])) for row in rows][:2] == [
        ("one_step", "fresh", "0", 1.0), ("one_step", "fresh", "1", 2.0),
    ]  # fmt: skip
    assert (page.parent / "study" / "core.png").stat().st_size > 10_000
    for i, job in enumerate(jobs):  # those of the first seed were another machine's
        if job.seed == 0:
            shutil.rmtree(tmp_path / "runs" / str(i))
    monkeypatch.setattr("sys.argv", [*argv, "--keep"])
    report.main()
    with (page.parent / "study" / "core.csv").open() as file:
        assert list(csv.DictReader(file)) == rows
    page.write_text("no place")
    with pytest.raises(SystemExit, match="has no place for it"):
        report.main()


def test_final_games_by_the_policy_stand_beside_those_by_q(tmp_path, monkeypatch, capsys) -> None:
    scores = script("study_scores")
    behaviors = {"epsilon-greedy": ["behavior=epsilon_greedy"], "epsilon-policy": ["behavior=epsilon_policy"]}
    suite = Suite("mine", ("breakout",), (0, 1), ("experiment=study", "task=minatar"), (*GRID, behaviors))
    jobs = [job for job in expand(suite, []) if job.label.startswith("retrace, fresh")]
    write_plan(tmp_path / "runs", "mine", jobs)
    for i, job in enumerate(jobs):
        folder = tmp_path / "runs" / str(i)
        write_run(folder, job, 2.0)
        other = json.loads((folder / "evaluation.json").read_text()) | {"over": "policy", "mean": 5.0 - 4 * job.seed}
        (folder / "evaluation-100-games-over-policy.json").write_text(json.dumps(other))
    out = tmp_path / "scores.csv"
    monkeypatch.setattr("sys.argv", ["x", str(tmp_path / "runs"), "--out", str(out)])
    scores.main()
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [(row["operator"], row["seed"], row["greedy_by_policy"], row["greedy_by_q"]) for row in rows] == [
        ("retrace", "0", "5.0", "2.0"), ("retrace", "1", "1.0", "2.0"),
    ]  # fmt: skip
    told = capsys.readouterr().out
    assert "| retrace | fresh | 3.00 | 2.00 | 2 |" in told
    assert "better in 1 of 2 runs" in told


def test_a_game_in_which_nothing_is_above_random_play_has_no_scale() -> None:
    report = script("study_report")
    run = report.Finished(("retrace", "fresh", "ladder"), "MinAtar-breakout", 0, 9.0, 9.0, {}, 1.0)
    lost = run._replace(game="MinAtar-asterix", score=0.1)
    assert report.scaled([run], "score")[run.cell]["MinAtar-breakout"] == [9.0]  # one game: as it is
    with pytest.raises(SystemExit, match="no cell is above random play in MinAtar-asterix"):
        report.scaled([run, lost], "score")


def test_the_mean_over_settings_weighs_each_alike_and_needs_all() -> None:
    report = script("study_report")

    def run(operator: str, age: str, behavior: str, seed: int, score: float):
        return report.Finished((operator, age, behavior), "MinAtar-breakout", seed, score, 2 * score, {}, 1.0)

    runs = [run("retrace", "fresh", "ladder", seed, seed) for seed in (1, 2, 3)]  # 2 on average
    runs += [run("retrace", "fresh", "greedy", 1, 4), run("retrace", "old", "ladder", 1, 6)]
    runs += [run("retrace", "old", "greedy", 1, 8), run("peng", "old", "greedy", 1, 9)]
    assert report.overall(runs).splitlines()[0] == "| operator | score | area | area, fresh | area, old |"
    assert report.overall(runs).splitlines()[2:] == ["| retrace | 5.00 | 10.00 | 6.00 | 14.00 |"]


def test_the_chains_truth() -> None:
    """Operators that are unbiased for every behavior are so on enumerated windows; lengths and noise of one step."""
    study = script("study_chain")
    mdp, alive = study.chain()
    assert alive.tolist() == [True] * 7 + [False]
    values = study.learner(mdp)
    pi = study.soft(values[-1])
    truth = tabular.q_of(mdp, pi)
    residual = mdp.reward + mdp.transition @ (pi * truth).sum(-1) - truth
    assert residual[alive].abs().max() < 1e-12
    for kind in study.BEHAVIORS.values():
        for mu in study.behaviors(kind, values[3]):
            torch.testing.assert_close(mu.sum(-1), torch.ones(8).double())
            windows = tabular.enumerate_windows(mdp, mu, 3)
            for name in ("retrace", "tree_backup", "rbis", "one_step", "q_lambda"):
                mean, square, length = study.moments(study.operator(name)[0], mdp, windows, truth, pi, mu)
                torch.testing.assert_close(mean.view(8, 2)[alive], truth[alive], rtol=0, atol=1e-12)  # a fixed point
                assert (square - mean.square()).min() > -1e-12
                assert 1 - 1e-12 <= length.min() <= length.max() <= 3 + 1e-12
    assert len(study.behaviors("ladder", values[3])) == 8


def test_ages_go_from_todays_policy_to_random_play() -> None:
    study = script("study_chain")
    found = study.survey(("one_step", "n_step 3"), (0, 12))
    for behavior in study.BEHAVIORS:
        fresh, random = found[behavior, 0, "n_step 3"], found[behavior, 12, "n_step 3"]
        assert random.bias > fresh.bias
        assert found[behavior, 0, "one_step"].bias == pytest.approx(found[behavior, 12, "one_step"].bias)


def test_the_sources_are_told_of_behaviors_alone() -> None:
    of_sources = script("study").of_sources
    assert of_sources(["seed=0,1", "only=retrace,ladder", "jobs=1"]) == ["jobs=1", "only=ladder"]
    assert of_sources(["only=retrace", "--dry-run"]) == ["--dry-run"]


@pytest.mark.parametrize(("word", "said"), [
    ("only=retrac", "did you mean 'retrace'"), ("trace=retrace", "is what the grid of suite study_frozen varies"),
    ("only=,", "names nothing"),
])  # fmt: skip
def test_mistakes_are_told_before_any_source_is_trained(word: str, said: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["study.py", "frozen", word])
    with pytest.raises(SystemExit, match=said):
        script("study").main()
    assert not list(tmp_path.iterdir())
