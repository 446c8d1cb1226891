"""Every command in docs/benchmarking.md is one that works."""

import re
import shlex
from pathlib import Path

import pytest

import offpol
from offpol.bench import command as bench
from offpol.bench.suite import NO_SUITE, expand, load_suite

DOC = Path(offpol.__file__).parent.parent / "docs" / "benchmarking.md"
TEXT = DOC.read_text() if DOC.exists() else ""
COMMANDS = re.findall(r"^(offpol-\w+ .*?)\s*(?:#.*)?$", TEXT, re.MULTILINE)
pytestmark = pytest.mark.skipif(not TEXT, reason="offpol is not run from a clone")


def test_there_are_commands() -> None:
    assert {command.split()[0] for command in COMMANDS} == {"offpol-bench", "offpol-report"}


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("offpol-bench")])
def test_a_bench_of_the_docs_means_runs(command: str) -> None:
    request = bench.parse(shlex.split(command)[1:])
    suite = load_suite(request.suite) if request.suite else NO_SUITE
    assert expand(suite, request.overrides)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("offpol-report")])
def test_a_report_of_the_docs_is_understood(command: str, monkeypatch) -> None:
    from offpol.report import command as report

    asked = []
    monkeypatch.setattr("sys.argv", shlex.split(command))
    monkeypatch.setattr(report, "report", lambda *arguments: asked.append(arguments) or "")
    report.main()
    assert len(asked) == 1


def test_the_suites_of_the_docs_are_all_there_are() -> None:
    from offpol.config import conf_dir

    named = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (`.*?) \|", TEXT, re.MULTILINE))))
    assert {path.stem for path in (conf_dir() / "suite").glob("*.yaml")} <= named
    assert {path.stem for path in (conf_dir() / "env" / "preset").glob("*.yaml")} <= named
