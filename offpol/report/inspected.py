"""What `offpol-inspect` saw in the runs of a comparison: Q and each operator's returns against what really came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from offpol.record.run_results import RunResult
from offpol.report.comparison import Comparison
from offpol.report.figures import colors
from offpol.report.pages import Table

CAPTION = (
    "By offpol-inspect, on windows of the replay at the checkpoint last inspected; means over inspected runs, each in "
    "units of its own: the root mean square distance of the agent's returns to Monte Carlo returns. Q - MC: how far Q "
    "lies above what really came, in the freshest and the oldest eighth of the windows. Operators: that distance of "
    "each one's returns, on the same windows, by the same values and policy; below 1 is nearer to what really came."
)


def inspected_table(comparison: Comparison) -> Table:
    """Return a row for each agent of which some run was inspected; no rows where none was."""
    found = {agent: _numbers(_seen(comparison, agent)) for agent in colors(comparison)}
    found = {agent: numbers for agent, numbers in found.items() if numbers}
    operators = sorted({name for numbers in found.values() for name in numbers["operators"]})
    header = ("", "runs", "its own, window", "Q - MC, freshest", "Q - MC, oldest", *operators)
    rows = [
        [f"**{agent}**", str(numbers["runs"]), numbers["own"], _number(numbers["freshest"]), _number(numbers["oldest"]),
         *(_number(numbers["operators"].get(name, np.nan)) for name in operators)]
        for agent, numbers in found.items()
    ]  # fmt: skip
    return Table(header, rows, CAPTION)


def _seen(comparison: Comparison, agent: str) -> list[dict[str, Any]]:
    runs: list[RunResult] = [run for game in comparison.games for run in comparison.of(agent, game)]
    return [run.inspected for run in runs if run.inspected]


def _numbers(seen: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Average what was seen of an agent's runs, each number over the runs where it is known; nothing without any."""
    told = []
    for one in seen:
        distances = {row["operator"]: row["rms_to_monte_carlo"] for row in one["operators"]}
        if unit := distances[one["operator"]]:
            bias = [row["q_minus_monte_carlo"] for row in one["by_age"]]
            known = {"freshest": bias[0], "oldest": bias[-1], **distances}
            told.append({name: value / unit for name, value in known.items() if value is not None})
    if not told:
        return {}
    means = {name: float(np.mean([one[name] for one in told if name in one])) for name in set().union(*told)}
    bias_by_age = {age: means.pop(age, np.nan) for age in ("freshest", "oldest")}
    own = " / ".join(sorted({f"{one['operator']}, {one['window']}" for one in seen}))
    return {"runs": len(told), "own": own, **bias_by_age, "operators": means}


def _number(value: float) -> str:
    return "—" if np.isnan(value) else f"{value:.2f}"
