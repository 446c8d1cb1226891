"""How off-policy the runs of a comparison were, and what became of their traces: a table and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from offpol.drawing import ENDS, plain
from offpol.record.run_results import RunResult
from offpol.report.comparison import Comparison
from offpol.report.figures import Panels, colors, panels
from offpol.report.pages import Table

LAST = 0.2  # of the budget: the share of training that numbers are averaged over
QUARTILES = (1, 2, 3, 4)
HEADER = (
    "", "window", "trace length", "uncut", "one step", *(end.label for end in ENDS.values()), "rho near 0", "rho ESS",
    "log mu/pi", "age (updates)",
)  # fmt: skip
CAPTION = (
    "Over the last fifth of training, means over runs. Trace length: the rewards that a return really used, against "
    "those up to the window's or the episode's end (uncut). One step: share of returns in which all that follows the "
    "first reward weighs less than .05. The five shares say what ended returns: an action that was explored, one that "
    "the behavior preferred then and pi does not now, or the operator by itself (one_step, lambda). "
    "Near 0: share of rows that pi takes 20 times less often than mu did; ESS: effective sample size of rho = pi/mu. "
    "Noisy layers log mu under the noise of a moment, so there rho means nothing and is left out; so it is, and what "
    "was explored, where data did not log its mu."
)
CUTS = ("trace_end/exploration", "trace_end/policy_change")  # told apart by mu
RATIOS = ("by_age/rho_", "rho_", "log_mu_minus_log_pi")  # what names of metrics of mu begin with
OFF_POLICY = (
    "What ended returns, trace length over training (dashed: uncut), and trace length by quartile of sample age, the "
    "freshest first; the first and the last over the last fifth of training."
)
Numbers = Mapping[str, float]


def off_policy_table(comparison: Comparison) -> Table:
    """Return a row for each agent whose runs logged it."""
    rows = []
    for agent, numbers in _agents(comparison).items():
        runs = _runs(comparison, agent)
        windows = sorted({int(run.cfg["agent"]["window"]) for run in runs})
        near_zero = [numbers[f"by_age/rho_near_zero_{i}"] for i in QUARTILES if f"by_age/rho_near_zero_{i}" in numbers]
        rows.append([
            f"**{agent}**", "/".join(map(str, windows)), _number(numbers.get("trace_length"), 2),
            _number(numbers.get("trace_length_uncut"), 2), _share(numbers.get("one_step_share")),
            *(_share(numbers.get(f"trace_end/{name}")) for name in ENDS),
            _share(float(np.mean(near_zero)) if near_zero else None), _share(numbers.get("rho_ess")),
            _number(numbers.get("log_mu_minus_log_pi"), 2), _number(numbers.get("sample_age_updates"), 0),
        ])  # fmt: skip
    return Table(HEADER, rows, CAPTION)


def off_policy_figure(comparison: Comparison) -> Panels | None:
    """Draw what ended returns, trace lengths over training, and lengths by age; None where no run logged that."""
    agents = {name: numbers for name, numbers in _agents(comparison).items() if "trace_end/window" in numbers}
    if not agents:
        return None
    palette = colors(comparison)
    told_apart = {name: numbers for name, numbers in agents.items() if CUTS[0] in numbers}
    first = 0 if told_apart else 1  # of the three panels

    def draw(number: int, axes: Axes, labelled: bool) -> None:
        number += first
        if number == 0:
            _draw_ends(axes, told_apart, palette)
            return
        for agent, numbers in agents.items():
            if number == 1:
                _draw_lengths(axes, _runs(comparison, agent), palette[agent], agent)
            else:
                lengths = [numbers.get(f"by_age/trace_length_{i}", np.nan) for i in QUARTILES]
                axes.plot(QUARTILES, lengths, "o-", color=palette[agent], markersize=3, label=agent)
        axes.set(xlabel="agent steps" if number == 1 else "quartile of sample age", ylabel="rewards that a return used")
        if number == 1:
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        else:
            axes.set_xticks(QUARTILES)
        axes.set_ylim(bottom=1)
        plain(axes, grid="both")

    return panels(3 - first, 3 - first, 3.4, max(2.4, 0.9 + 0.2 * len(agents)), draw, legend=True)


def _draw_lengths(axes: Axes, runs: Sequence[RunResult], color: str, agent: str) -> None:
    steps = np.linspace(0, max(run.budget for run in runs), 41)[1:]
    for metric, style in (("trace_length", "-"), ("trace_length_uncut", "--")):
        logged = [run.logged(metric) for run in runs]
        curves = np.array([np.interp(steps, x, y, left=np.nan, right=np.nan) for x, y in logged if len(x)])
        if len(curves):
            seen = ~np.isnan(curves).all(axis=0)
            label = {"label": agent} if style == "-" else {"lw": 1.0}
            axes.plot(steps[seen], np.nanmean(curves[:, seen], axis=0), style, color=color, **label)


def _draw_ends(axes: Axes, agents: Mapping[str, Numbers], palette: Mapping[str, str]) -> None:
    left = np.zeros(len(agents))
    rows = np.arange(len(agents))[::-1]
    for name, end in ENDS.items():
        width = np.array([numbers[f"trace_end/{name}"] for numbers in agents.values()])
        axes.barh(rows, width, left=left, color=end.color, label=end.label, height=0.7)
        left += width
    axes.set_yticks(rows, list(agents))
    plain(axes)
    for tick, name in zip(axes.get_yticklabels(), agents, strict=True):
        tick.set_color(palette[name])
    axes.set(xlim=(0, 1), xlabel="share of returns, by what ended them")


def _agents(comparison: Comparison) -> dict[str, Numbers]:
    """Average what the runs of each agent logged over the last part of training."""
    found: dict[str, Numbers] = {}
    for agent in colors(comparison):
        means: dict[str, list[float]] = {}
        for run in _runs(comparison, agent):
            for name, number in run.late(LAST).items():
                means.setdefault(name, []).append(number)
        if "trace_length" in means:
            unknown = _unknown(_runs(comparison, agent))
            known = {name: numbers for name, numbers in means.items() if not name.startswith(unknown)}
            found[agent] = {name: float(np.mean(numbers)) for name, numbers in known.items()}
    return found


def _unknown(runs: Sequence[RunResult]) -> tuple[str, ...]:
    """Return what the names of metrics begin with that mean nothing for lack of a known mu."""
    if any(run.cfg["network"].get("heads", {}).get("noisy") for run in runs):
        return RATIOS
    return (*RATIOS, *CUTS) if not all(run.info.get("mu_known", True) for run in runs) else ()


def _runs(comparison: Comparison, agent: str) -> list[RunResult]:
    return [run for game in comparison.games for run in comparison.of(agent, game)]


def _number(value: float | None, digits: int) -> str:
    return "—" if value is None else f"{value:,.{digits}f}"


def _share(value: float | None) -> str:
    return "—" if value is None else f"{value:.0%}"
