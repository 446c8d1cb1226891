"""A published bench: small, without the machine's folders, and its report says what the bench's own says."""

import csv
import importlib.util
import json
import re
from pathlib import Path

import pytest
from fake_runs import inspect, write_plan, write_run

import offpol
from offpol.bench.plan import Paces, tasks
from offpol.bench.suite import Job, expand, load_suite
from offpol.record.run_results import find_runs, last_row
from offpol.report import pages
from offpol.report.command import report

SCRIPT = Path(offpol.__file__).parent.parent / "benchmarks" / "publish.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="offpol is not run from a clone")


@pytest.fixture(scope="module")
def publish():
    spec = importlib.util.spec_from_file_location("publish", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    """A bench of eight runs, of which one is half done."""
    jobs = expand(load_suite("s6"), ["env.game=Krull,Boxing", "seed=0,1", "trace=retrace,n_step"])
    write_plan(tmp_path / "bench", "s6", jobs)
    for i, job in enumerate(jobs):
        folder = tmp_path / "bench" / job.label / job.game / f"seed{job.seed}"
        command = [*job.overrides, f"hydra.run.dir='{folder}'"]
        write_run(folder, job, 100.0 + i, reached=0.5 if i == 3 else 1.0, command=command)
    inspect(folder, own=2.0, bias=(0.5, 1.0), others={"n_step": 3.0})
    return jobs


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "directory"} for row in csv.DictReader(file)]


def test_the_report_of_what_was_published_is_the_benchs_own(
    publish, jobs: list[Job], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(pages, "_svg", lambda drawing, name: "<svg></svg>")  # the tables are what is compared
    monkeypatch.setattr(pages.Drawing, "savefig", lambda self, path, dpi: path.touch())
    bench, kept = tmp_path / "bench", tmp_path / "kept"
    assert publish.publish(bench, kept) == (7, 1)
    said = [report([str(folder)], folder / "report", "t", [], True) for folder in (bench, kept)]
    assert said[0].splitlines()[:-1] == said[1].splitlines()[:-1]
    seen = [
        (folder / "report" / "report.md").read_text().partition("### Returns against")[2] for folder in (bench, kept)
    ]
    assert "0.25 | 0.50 | 1.50 | 1.00 |" in seen[0]
    assert seen[0].partition("###")[0] == seen[1].partition("###")[0]
    assert table(bench / "report" / "aggregates.csv") == table(kept / "report" / "aggregates.csv")
    for name in ("runs", "curves"):
        ours = table(bench / "report" / f"{name}.csv")
        whole = [row for row in ours if row.get("finished") != "False" and row["game"] != unfinished(jobs)]
        theirs = [row for row in table(kept / "report" / f"{name}.csv") if row["game"] != unfinished(jobs)]
        assert whole == theirs, name
    texts = [(folder / "report" / "report.md").read_text() for folder in (bench, kept)]
    games = [re.search(r"### Games\n\n(.*?)\n\n", text, re.DOTALL)[1] for text in texts]
    assert games[0] == games[1]
    assert f"lacks {unfinished(jobs)} (seed 0)" in texts[1]


def unfinished(jobs: list[Job]) -> str:
    return jobs[3].game


def test_only_what_is_small_and_belongs_to_no_machine_is_kept(publish, jobs: list[Job], tmp_path: Path) -> None:
    for path in (tmp_path / "bench").rglob("info.json"):
        code = {"trace": {"class": "mine.Mine", "file": str(tmp_path / "mine.py"), "sha256": "0"}}
        info = {**json.loads(path.read_text()), "own_code": code, "resumed": [{"own_code": code}]}
        path.write_text(json.dumps(info))
    publish.publish(tmp_path / "bench", tmp_path / "kept")
    files = {path.name for path in (tmp_path / "kept").rglob("*") if path.is_file()}
    assert files == {"bench.json", "config.yaml", "info.json", "evaluation.json", "episodes.csv.gz", "metrics.jsonl.gz",
                     "inspect.json"}  # fmt: skip
    for path in (tmp_path / "kept").rglob("*.json"):
        assert str(tmp_path) not in path.read_text()
    before = {path: path.read_bytes() for path in (tmp_path / "kept").rglob("*.*")}
    publish.publish(tmp_path / "bench", tmp_path / "kept")
    assert before == {path: path.read_bytes() for path in (tmp_path / "kept").rglob("*.*")}


def test_a_bench_finds_published_runs_finished(publish, jobs: list[Job], tmp_path: Path) -> None:
    publish.publish(tmp_path / "bench", tmp_path / "kept")
    found = list(find_runs([tmp_path / "kept"]))
    planned = tasks(jobs, found, tmp_path / "kept")
    assert [task.state for task in planned].count("finished") == 7
    assert Paces(found).of(jobs[3].cfg).agent_steps_per_s == pytest.approx(50.0)


def test_without_final_games_the_last_agent_step_finishes_a_run(publish, tmp_path: Path) -> None:
    (job,) = expand(load_suite("s6"), ["env.game=Krull", "seed=0", "run.eval_episodes=0"])
    write_run(tmp_path / "bench" / "run", job, None)
    assert publish.publish(tmp_path / "bench", tmp_path / "kept") == (1, 0)
    (kept,) = find_runs([tmp_path / "kept"])
    assert kept.finished
    assert not kept.evaluation


def test_few_rows_stay_the_last_among_them(publish, tmp_path: Path) -> None:
    rows = [{"agent_steps": step, "loss": step / 3, "none": None} for step in range(1, 1001)]
    few = publish.thinned(rows)
    assert 80 <= len(few) <= 100
    assert few[-1] == rows[-1]
    assert publish.thinned(rows[:7]) == rows[:7]
    publish.pack(tmp_path / "metrics.jsonl", json.dumps(publish.rounded(few[-1])) + "\n")
    assert last_row(tmp_path / "metrics.jsonl") == {"agent_steps": 1000, "loss": 333.333, "none": None}
