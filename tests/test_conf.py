"""A folder is a seam: what conf/ holds, the package holds, and each explains the other's values."""

import functools
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import get_class

import offpol.types
from offpol.checks import SECTIONS, check_config
from offpol.cli.command_line import plain
from offpol.config import conf_dir
from offpol.signatures import is_record, parameters, stand_in

SEAMS = ("behavior", "critic", "env", "network", "policy", "replay", "topology", "trace")
OPTIONS = sorted(path for seam in SEAMS for path in (conf_dir() / seam).glob("*.yaml"))
EXPERIMENTS = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))
TASKS = sorted(path.stem for path in (conf_dir() / "task").glob("*.yaml"))
AGENTS = [name for name in EXPERIMENTS if name not in TASKS]
every_option = pytest.mark.parametrize("path", OPTIONS, ids=lambda path: f"{path.parent.name}/{path.stem}")


@functools.cache
def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return plain(compose("config", list(overrides), return_hydra_config=True))


def node_of(path: Path) -> dict[str, Any]:
    return composed(f"{path.parent.name}={path.stem}")[path.parent.name]


def sections() -> Iterator[tuple[str, dict[str, Any]]]:
    cfg = composed()
    yield from ((name, cfg[name]) for name in ("agent", "run"))
    yield from ((path.parent.name, node_of(path)) for path in OPTIONS)


def test_every_seam_is_a_folder_twice_and_a_protocol() -> None:
    package = Path(offpol.types.__file__).parent
    for seam in SEAMS:
        assert list((conf_dir() / seam).glob("*.yaml")), seam
        assert (package / seam).is_dir(), seam
        assert getattr(getattr(offpol.types, seam.title()), "_is_protocol", False), seam
    assert set(SEAMS) == {name for name in SECTIONS if name not in ("agent", "run")}
    known = {*SEAMS, "experiment", "task", "suite", "hydra"}
    assert {path.name for path in conf_dir().iterdir() if path.is_dir()} <= known


@every_option
def test_each_file_names_its_own_module(path: Path) -> None:
    assert node_of(path)["_target_"].rpartition(".")[0] == f"offpol.{path.parent.name}.{path.stem}"


def test_each_module_of_a_seam_has_its_file() -> None:
    package = Path(offpol.types.__file__).parent
    modules = {(seam, path.stem) for seam in SEAMS for path in (package / seam).glob("*.py") if path.stem != "__init__"}
    assert modules == {(path.parent.name, path.stem) for path in OPTIONS}


def _check_parameters(key: str, node: Mapping[str, Any], target: type, runtime: tuple[str, ...]) -> None:
    """Yaml and constructor agree; values live in yaml only; everything is annotated so that it can be checked."""
    wanted = parameters(target)
    given = set(node) - {"_target_"}
    assert given == {name for name in wanted if name not in runtime}, key
    for name in given:
        annotation, default = wanted[name].annotation, wanted[name].default
        assert default is inspect.Parameter.empty, f"{key}.{name} has a second default in Python"
        assert annotation is not object, f"{key}.{name} cannot be checked: annotate it with what it may be"
        if is_record(annotation):
            _check_parameters(f"{key}.{name}", node[name], annotation, ())


def test_yaml_and_constructors_say_the_same() -> None:
    for name, node in sections():
        _check_parameters(node["_target_"], node, get_class(node["_target_"]), SECTIONS[name])


def _check_stand_in(real: type, copy: type) -> None:
    """A class read from its source has the parameters of the class itself."""
    ours, theirs = parameters(copy), parameters(real)
    assert list(ours) == list(theirs)
    for name in ours:
        mine, other = ours[name].annotation, theirs[name].annotation
        assert (ours[name].default is inspect.Parameter.empty) == (theirs[name].default is inspect.Parameter.empty)
        if is_record(other):
            _check_stand_in(other, mine)
        elif mine is not object:  # what only the program hands over need not be read
            assert str(mine).rpartition(".")[2] == str(other).rpartition(".")[2], f"{real.__name__}.{name}"


def test_signatures_read_from_source_are_those_of_the_classes() -> None:
    seen = 0
    for name, node in sections():
        module, _, class_name = node["_target_"].rpartition(".")
        copy = stand_in(module, class_name)
        if copy is not None:
            seen += 1
            _check_stand_in(get_class(node["_target_"]), copy)
            given = {n: p for n, p in parameters(copy).items() if n not in SECTIONS[name]}
            assert all(p.annotation is not object for p in given.values()), node["_target_"]
    assert seen >= 20


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_checks(experiment: str) -> None:
    check_config(composed(f"experiment={experiment}"))


@pytest.mark.parametrize("experiment", AGENTS)
def test_a_task_is_put_on_top_of_any_agent(experiment: str) -> None:
    cfg, alone = composed(f"experiment={experiment}", "task=minatar"), composed("task=minatar")
    check_config(cfg)
    for section in ("env", "network"):
        assert cfg[section]["_target_"] == alone[section]["_target_"]
    if "v_min" in cfg["critic"]:
        assert (cfg["critic"]["v_min"], cfg["critic"]["v_max"]) == (-2.0, 20.0)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_composes_and_checks(task: str) -> None:
    check_config(composed(f"task={task}"))


def test_the_default_is_retrace_hl_gauss_spelled_out() -> None:
    assert composed("experiment=retrace_hl_gauss") == composed()


def test_experiments_of_small_envs_are_their_tasks() -> None:
    for name in ("cartpole", "minatar"):
        assert composed(f"experiment={name}") == composed(f"task={name}")


@every_option
def test_every_option_checks_within_the_whole(path: Path) -> None:
    check_config(composed(f"{path.parent.name}={path.stem}"))


@every_option
def test_every_value_has_a_comment(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line[:1].isalpha() and line.partition(": ")[2]]
    assert not [line for line in lines if "#" not in line], f"{path}: say in a comment what these mean"


def test_the_config_is_plain_yaml_with_the_experiment_on_top() -> None:
    defaults = yaml.safe_load((conf_dir() / "config.yaml").read_text())["defaults"]
    assert not [entry for entry in defaults if isinstance(entry, dict) and any("optional" in key for key in entry)]
    assert defaults.index("_self_") < defaults.index({"experiment": "default"}) < defaults.index({"task": "atari"})
