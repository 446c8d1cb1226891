"""Who may import whom: types <- flat helpers <- seams <- agent, actor <- topology <- assembly, evaluate <- main."""

import ast
from pathlib import Path

import pytest

import offpol

PACKAGE = Path(offpol.__file__).parent
SEAMS = ("behavior", "critic", "env", "network", "policy", "replay", "trace")
ABOVE = {"agent": 3, "actor": 3, "data_parallel": 3, "actor_side": 4, "topology": 4, "assembly": 5, "evaluate": 6}
ABOVE |= {"cli.evaluate_command": 7, "training": 7, "main": 8, "api": 8}
INSPECT = ("inspection", "tables", "figures", "window", "mu_compare", "mu_check", "replay_contents")
ABOVE |= dict.fromkeys((f"inspect.{name}" for name in INSPECT), 6)
ABOVE |= dict.fromkeys((f"bench.{name}" for name in ("suite", "plan", "view", "launcher")), 6)
ABOVE |= {"inspect.command": 7, "inspect.replay_command": 7, "bench.command": 7, "bench.child": 8}
# Commands; everything else gets plain values.
READS_CONFIG = {"bench.launcher", "bench.suite", "config", "main"}
READS_CONFIG |= {"cli.command_line", "cli.groups", "cli.mistakes", "cli.overlaid", "cli.resuming", "cli.saved_config"}
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def layer(name: str) -> int:
    """Rank a module by what follows `offpol` in its dotted path, or in that of something in it."""
    folder, module = name.split(".")[0], ".".join(name.split(".")[:2])
    if module in ABOVE or folder in ABOVE:
        return ABOVE.get(module, ABOVE.get(folder, 0))
    return 0 if folder in ("types", "batch") else 2 if folder in SEAMS else 1


def imports(path: Path) -> set[str]:
    """Return the dotted names that a file imports at run time, inside functions too."""
    tree = ast.parse((PACKAGE / path).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_down(path: Path) -> None:
    if path == Path("__init__.py"):  # the door to `offpol.api`
        return
    own = dotted(path)
    for name in imports(path):
        if not name.startswith("offpol."):
            continue
        other = name.removeprefix("offpol.")
        same = own.split(".")[0] == other.split(".")[0]
        assert layer(other) <= layer(own), f"{path} imports upwards: {name}"
        assert same or layer(own) != 2 or layer(other) != 2, f"{path} imports another seam: {name}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_only_the_composition_root_knows_hydra(path: Path) -> None:
    if dotted(path) not in READS_CONFIG:
        assert not [name for name in imports(path) if name.split(".")[0] in ("hydra", "omegaconf")]


def test_the_rule_catches_what_it_should() -> None:
    assert (
        layer("memory.ring") == layer("schedule") < layer("bench.plan") < layer("bench.command") < layer("bench.child")
    )
    assert layer("types") < layer("schedule") < layer("trace") < layer("agent") < layer("topology") < layer("main")
    assert "offpol.types.StateDict" in imports(Path("actor.py"))
    assert "offpol.run.Run" not in imports(Path("types.py"))
