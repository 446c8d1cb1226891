"""Write docs/reference.md from the docstrings of offpol and the yaml files of conf/.

    python docs/make_reference.py

`tests/test_docs.py` fails where the page is out of date.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

from offpol.cli.command_line import composed
from offpol.config import conf_dir

HERE = Path(__file__).parent
SEAMS = ("trace", "critic", "policy", "behavior", "replay", "network", "env", "topology")
CORE = {
    "offpol.types": (
        "EnvSpec", "EnvStep", "Rows", "TraceInputs", "TraceTargets", "Outputs", "NetworkOutput", "PolicyInputs",
    ),
    "offpol.batch": ("Batch",),
    "offpol.agent": ("Agent", "OptimizerConfig", "TargetConfig", "Update"),
    "offpol.actor": ("Actor", "Decision", "Episode"),
    "offpol.run": ("RunConfig", "Run"),
}  # fmt: skip
HEAD = """# Reference

Every part by its name on the command line, with its values and what they mean, then the types that flow between parts.
Made from docstrings and `conf/` by `python docs/make_reference.py`; do not edit.
"""
NUMBERS_HEAD = """The agents of [recipes](recipes.md) in numbers, on Atari; another task replaces some of them, and
`offpol --cfg job experiment=NAME` shows the rest.
"""
NUMBERS = {
    "trace": lambda c: part(c, "trace") + shown(c["trace"].get("lambda_"), ", lambda {}"),
    "window": lambda c: f"{c['agent']['window']}, {c['agent']['train_positions']} trained",
    "critic": lambda c: part(c, "critic"),
    "policy": lambda c: part(c, "policy"),
    "behavior": lambda c: part(c, "behavior") + shown(c["behavior"].get("epsilon"), ", epsilon {}"),
    "network": lambda c: part(c, "network"),
    "replay": lambda c: (
        f"{part(c, 'replay')}, {c['replay']['capacity']:,}" + shown(c["replay"].get("alpha"), ", alpha {}")
    ),
    "updates per agent step": lambda c: f"{c['run']['replay_ratio']:g}",
    "batch": lambda c: c["agent"]["batch_size"],
    "learns from step": lambda c: f"{c['run']['learning_starts_agent_steps']:,}",
    "learning rate": lambda c: f"{c['agent']['optimizer']['learning_rate']:g}",
    "target network": lambda c: "rate {rate:g}, every {period_updates:,}".format(**c["agent"]["target"]),
    "gamma": lambda c: c["agent"]["gamma"],
}


def reference() -> str:
    """Return the whole page."""
    names = {seam: ", ".join(f"`{file.stem}`" for file in options(seam)) for seam in SEAMS}
    contents = [f"- [{seam}=](#{seam}): {listed}" for seam, listed in names.items()]
    parts = [HEAD, "\n".join([*contents, "- [experiments](#experiments)", "- [types](#types)\n"])]
    for seam in SEAMS:
        protocol = getattr(importlib.import_module("offpol.types"), seam.title())
        parts.append(f"## {seam}\n\n{docstring(protocol)}\n\n{methods(protocol)}")
        parts += [option(seam, file) for file in options(seam)]
    parts += ["## experiments\n", NUMBERS_HEAD, experiments()]
    parts.append("## types\n")
    for module, names in CORE.items():
        found = importlib.import_module(module)
        parts += [f"### `{module}.{name}`\n\n{data(getattr(found, name))}" for name in names]
    return "\n".join(parts)


def options(seam: str) -> list[Path]:
    return sorted((conf_dir() / seam).glob("*.yaml"))


def option(seam: str, file: Path) -> str:
    """Describe one part: its class's docstring and its yaml."""
    text = file.read_text()
    target = re.search(r"^_target_: (\S+)$", text, re.M)
    assert target, file
    module, _, name = target[1].rpartition(".")
    values = text.replace(target[0] + "\n", "").strip()
    yaml = f"\n```yaml\n{values}\n```\n" if values else ""
    return f"### {seam}={file.stem}\n\n{docstring(getattr(importlib.import_module(module), name))}\n{yaml}"


def experiments() -> str:
    """Tabulate what sets the agents of conf/experiment apart."""
    tasks = {file.stem for file in (conf_dir() / "task").glob("*.yaml")}
    lines = [" | ".join(["|", *NUMBERS]) + " |", "|---" * (len(NUMBERS) + 1) + "|"]
    for file in sorted((conf_dir() / "experiment").glob("*.yaml")):
        if file.stem not in tasks:
            cfg = composed([f"experiment={file.stem}"])
            lines.append(" | ".join([f"| `{file.stem}`", *(str(tell(cfg)) for tell in NUMBERS.values())]) + " |")
    return "\n".join(lines) + "\n"


def part(cfg: dict[str, Any], seam: str) -> str:
    """Name a part by its module, as the command line does."""
    return cfg[seam]["_target_"].split(".")[-2]


def shown(value: Any, text: str) -> str:
    """Put a value, or the start and end of a schedule, into `text`; nothing where there is none."""
    if value is None:
        return ""
    if isinstance(value, dict):
        start, end = value["start"], value["end"]
        value = start if start == end else f"{start:g} to {end:g} over {value['over_agent_steps']:,}"
    return text.format(value)


def methods(protocol: type) -> str:
    """List what a Protocol asks for, by its methods' docstrings."""
    lines = []
    for name, member in vars(protocol).items():
        if inspect.isfunction(member) and member.__doc__ and (name == "__call__" or not name.startswith("_")):
            first = docstring(member).splitlines()[0]
            lines.append(f"- `{name.replace('__call__', '()')}`: {first}")
    return "\n".join(lines) + "\n"


def data(cls: type) -> str:
    """Describe a type: its docstring, and its fields with their comments."""
    source = inspect.getsource(cls)
    fields = re.findall(r"^    (\w+: [^=\n#]+?)(?: = [^\n#]+)?(?:  # ([^\n]*))?$", source, re.M)
    escaped = [(declared.strip().replace("|", "\\|"), comment.replace("|", "\\|")) for declared, comment in fields]
    rows = [f"| `{declared}` | {comment} |" for declared, comment in escaped]
    table = "| field | |\n|---|---|\n" + "\n".join(rows) + "\n" if rows else ""
    return f"{docstring(cls)}\n\n{table}"


def docstring(thing: object) -> str:
    """Return a docstring as Markdown: formulas and indented lists keep their lines."""
    text = inspect.getdoc(thing) or ""
    plain, *sections = re.split(r"^(?=(?:Args|Raises|Attributes|Shapes):$)", text, flags=re.M)
    listed = [re.sub(r"^(\w+):$", r"**\1**\n", section, count=1, flags=re.M) for section in sections]
    return plain + "".join(re.sub(r"^    (\w[\w, ]*): ", r"- `\1`: ", section, flags=re.M) for section in listed)


if __name__ == "__main__":
    (HERE / "reference.md").write_text(reference())
