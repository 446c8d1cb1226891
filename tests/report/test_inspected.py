"""What offpol-inspect saw of runs stands in their report, in units that runs of any game share."""

from pathlib import Path

import pytest
from fake_runs import inspect, write_run

from offpol.bench.suite import expand, load_suite
from offpol.record.run_labels import collect, named
from offpol.report import command
from offpol.report.grouping import compare
from offpol.report.inspected import inspected_table
from offpol.report.pages import Table


@pytest.fixture
def folders(tmp_path: Path) -> dict[tuple[str, int], Path]:
    """Runs of two agents and seeds, by name and seed."""
    found = {}
    for job in expand(load_suite("s6"), ["env.game=Krull", "seed=0,1", "trace=retrace,n_step"]):
        found[job.label, job.seed] = write_run(tmp_path / "runs" / job.label / str(job.seed), job, 100.0)
    return found


def table(tmp_path: Path) -> Table:
    (comparison,) = compare(named(collect([str(tmp_path / "runs")])))
    return inspected_table(comparison)


def test_distances_are_told_in_units_of_the_runs_own(folders, tmp_path: Path) -> None:
    inspect(folders["trace=retrace", 0], own=2.0, bias=(0.5, 9.0, 1.0), others={"n_step": 3.0, "peng": 1.0})
    inspect(folders["trace=retrace", 1], own=10.0, bias=(-1.0, 9.0, 4.0), others={"n_step": 8.0, "peng": None})
    inspect(folders["trace=n_step", 1], own=1.0, bias=(None, 0.1), others={"n_step": 1.25})
    found = table(tmp_path)
    assert found.header[:5] == ("", "runs", "its own, window", "Q - MC, freshest", "Q - MC, oldest")
    assert found.header[5:] == ("n_step", "peng", "retrace")
    assert sorted(found.rows) == [
        ["**trace=n_step**", "1", "retrace, 5", "—", "0.10", "1.25", "—", "1.00"],
        ["**trace=retrace**", "2", "retrace, 5", f"{(0.25 - 0.1) / 2:.2f}", "0.45", "1.15", "0.50", "1.00"],
    ]


def test_without_monte_carlo_returns_there_is_nothing_to_tell(folders, tmp_path: Path) -> None:
    inspect(folders["trace=retrace", 0], own=None, bias=(None, None), others={"n_step": None})
    assert not table(tmp_path).rows


def test_only_a_report_of_inspected_runs_has_the_table(folders, tmp_path: Path, no_pictures) -> None:
    for out, there in (("before", False), ("after", True)):
        command.report([str(tmp_path / "runs")], tmp_path / out, "t", [], True)
        assert ("### Returns against what really came" in (tmp_path / out / "report.md").read_text()) == there
        if not there:
            inspect(folders["trace=retrace", 0], own=2.0, bias=(0.5, 1.0), others={"n_step": 3.0})
