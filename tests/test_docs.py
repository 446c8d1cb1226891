"""Every command that README and docs/ show is understood by the program it calls, down to each value."""

import argparse
import importlib
import re
import runpy
import shlex
import tomllib
from pathlib import Path

import pytest
from test_conf import composed

from offpol.bench import command as bench
from offpol.bench.suite import NO_SUITE, expand, load_suite
from offpol.checks import check_config
from offpol.cli import command_line
from offpol.cli.saved_config import relaunchable
from offpol.config import conf_dir
from offpol.record.run_keys import RESUMABLE
from offpol.reference_scores import baselines, human_random

ROOT = conf_dir().parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
INLINE = r"`(offpol(?:-\w+)?\s[^`]*|python\s+benchmarks/[^`]*)`"
PLACEHOLDERS = {"experiment=NAME": "experiment=dqn", "RUN_DIR": "a_run", "THIS_FOLDER": "a_run"}


def commands() -> list[tuple[str, str]]:
    """List (page, command) for each line of a bash block and each command inside a sentence."""
    found = []
    for page in PAGES:
        text = page.read_text()
        blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.S)).replace("\\\n", " ")
        inline = [code.replace("\n", " ") for code in re.findall(INLINE, text)]
        for line in [*blocks.splitlines(), *inline]:
            command = re.sub(r"\s+#.*", "", line).strip()
            for placeholder, value in PLACEHOLDERS.items():
                command = command.replace(placeholder, value)
            found.append((page.name, command))
    return list(dict.fromkeys(found))


COMMANDS = commands()


def of(program: str) -> pytest.MarkDecorator:
    """Parametrise a test by the arguments that the pages give to a program."""
    lines = [(page, shlex.split(command)) for page, command in COMMANDS]
    lines = [(page, words[words.index(program) + 1 :]) for page, words in lines if program in words]
    cases = [pytest.param(args, id=f"{page}: {' '.join(args)}") for page, args in lines]
    return pytest.mark.parametrize("arguments", cases)


def test_the_pages_show_commands() -> None:
    shown = {word for _, command in COMMANDS for word in shlex.split(command) if word in PROGRAMS}
    assert shown == set(PROGRAMS)


@of("offpol")
def test_a_run_of_the_docs_composes(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if any(argument.startswith("resume=") for argument in arguments):
        assert set(command_line.parse_assignments(arguments)) <= RESUMABLE | {"resume"}
        return
    own = {"--config-path": relaunchable(composed()), "--config-dir": None}
    for flag, config in own.items():  # a folder that the page has the reader make
        if flag in arguments:
            (tmp_path / "config.yaml").write_text(config or "")
            arguments[arguments.index(flag) + 1] = str(tmp_path)
    if "--config-dir" in arguments:
        (tmp_path / "experiment").mkdir()
        (tmp_path / "experiment" / "halfway.yaml").write_text("# @package _global_\n")
    args = command_line.parse(arguments)
    for cfg in command_line.compositions(args):
        check_config(command_line.plain(cfg))


@of("offpol-bench")
def test_a_bench_of_the_docs_means_runs(arguments: list[str]) -> None:
    request = bench.parse(arguments)
    assert expand(load_suite(request.suite) if request.suite else NO_SUITE, request.overrides)


class Understood(Exception):
    """Raised in place of doing what was asked for."""


@pytest.mark.parametrize("program", sorted(set(PROGRAMS) - {"offpol", "offpol-bench"}))
def test_the_other_programs_understand_what_the_docs_ask(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parse = argparse.ArgumentParser.parse_args

    def parse_only(parser: argparse.ArgumentParser, *given: object) -> None:
        parse(parser, *given)
        raise Understood

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    module, _, name = PROGRAMS[program].partition(":")
    main = getattr(importlib.import_module(module), name)
    asked = [shlex.split(command) for _, command in COMMANDS if program in shlex.split(command)]
    assert asked
    for words in asked:
        monkeypatch.setattr("sys.argv", words[words.index(program) :])
        with pytest.raises(Understood):
            main()


@pytest.mark.parametrize("command", sorted({command for _, command in COMMANDS if "benchmarks/" in command}))
def test_a_benchmark_of_the_docs_exists_and_has_its_options(command: str) -> None:
    words = shlex.split(command)
    script = next(word for word in words if word.startswith("benchmarks/"))
    source = (ROOT / script).read_text()
    for option in re.findall(r"--[\w-]+", command):
        assert f'"{option}"' in source, option


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
        if re.match(r"https?:", target):
            continue
        led_to = page.parent / target if target else page
        assert led_to.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", led_to.read_text(), re.M)
            anchors = [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads]
            assert anchor in anchors, f"{target}#{anchor}"


def test_the_reference_is_up_to_date() -> None:
    make = runpy.run_path(str(ROOT / "docs" / "make_reference.py"))
    again = "python docs/make_reference.py"
    assert (ROOT / "docs" / "reference.md").read_text() == make["reference"](), f"run {again}"


def test_the_suites_of_the_docs_are_all_there_are() -> None:
    text = (ROOT / "docs" / "benchmarking.md").read_text()
    named = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))))
    assert {path.stem for path in (conf_dir() / "suite").glob("*.yaml")} <= named


def test_what_is_said_of_held_buttons_is_in_the_table() -> None:
    sticky = {(row.game, row.name): row.mean for row in baselines() if row.protocol == "sticky"}
    held = {game: mean for (game, name), mean in sticky.items() if name == "best constant action"}
    assert len(held) == 57
    normal = {game: human_random()[game].normalise(mean) for game, mean in held.items()}
    assert {game: f"{score:.1f}" for game, score in normal.items() if score > 1} == {
        "DoubleDunk": "8.4", "Robotank": "2.3", "Tennis": "1.5"
    }  # fmt: skip
    assert f"{normal['IceHockey']:.2f}" == "0.93"
    better = sum(mean > sticky[game, "random"] for game, mean in held.items())
    text = " ".join((ROOT / "docs" / "benchmarking.md").read_text().split())
    assert (
        f"above random play in {better}, and above the human score in three: Double Dunk (8.4), Robotank (2.3) and"
        in text
    )
    assert "Tennis (1.5); in Ice Hockey it comes to .93" in text
