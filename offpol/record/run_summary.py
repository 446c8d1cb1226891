"""What a person looks at after a run: its learning curve and one screen of numbers."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from offpol.record.run_directory import EPISODES, EVALUATION, whole_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMOOTH_EPISODES = 50  # at most, in the curve's moving mean
# Of the figure. Room for seven digits; having a layout computed takes longer than all the rest of the drawing.
MARGINS = {"left": 0.13, "right": 0.97, "bottom": 0.12, "top": 0.92}


def learning_curve(directory: Path, title: str, levels: Mapping[str, float]) -> None:
    """Draw learning_curve.png: every raw full-game return and their moving mean, and the evaluation where there is one.

    `levels` are scores to compare with, by name; one far above all returns is left out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    steps, returns = _episodes(directory / EPISODES)
    figure = Figure(figsize=(7, 4.2))
    axes = figure.subplots(gridspec_kw=MARGINS)
    axes.plot(steps, returns, ".", markersize=3, alpha=0.35, color="tab:blue", label="episode")
    if len(returns):
        width = max(1, min(SMOOTH_EPISODES, len(returns) // 5))
        sums = np.concatenate([[0.0], returns.cumsum()])
        first = np.maximum(np.arange(len(returns)) - width + 1, 0)
        mean = (sums[1:] - sums[first]) / (np.arange(len(returns)) - first + 1)
        axes.plot(steps, mean, color="tab:orange", label=f"mean of the last {width}")
        for (name, level), style in zip(levels.items(), ("--", ":"), strict=False):
            if level < 1.5 * returns.max():
                axes.axhline(level, color="gray", linestyle=style, linewidth=1, label=f"{name}: {level:,.4g}")
    _mark_evaluation(axes, directory / EVALUATION)
    if axes.get_legend_handles_labels()[1][1:]:
        axes.legend()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.set(xlabel="agent steps", ylabel="raw return of a full game", title=title)
    axes.grid(alpha=0.3)
    scratch = directory / "learning_curve.partial.png"
    FigureCanvasAgg(figure).print_png(scratch)
    os.replace(scratch, directory / "learning_curve.png")


def summary(heading: str, facts: Mapping[str, object]) -> str:
    """Lay out facts as one screen: a heading and aligned lines."""
    width = max(len(name) for name in facts)
    return "\n".join([heading, *(f"  {name:<{width}}  {value}" for name, value in facts.items())])


def duration(seconds: float | None) -> str:
    """Say how long something takes, in a unit that suits; `?` for None."""
    if seconds is None:
        return "?"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 90:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 72 * 60 else f"{minutes / 1440:.1f} days"


def _mark_evaluation(axes: Axes, path: Path) -> None:
    if not path.exists():
        return
    result = json.loads(path.read_text())
    low, high = result["interval_95"]
    mean, label = result["mean"], f"evaluation: {result['mean']:,.4g} (epsilon {result['epsilon']:g})"
    axes.errorbar(
        [result["agent_steps"]], [mean], [[mean - low], [high - mean]], fmt="D", capsize=3, color="tab:green",
        label=label,
    )  # fmt: skip


def _episodes(path: Path) -> tuple[np.ndarray, np.ndarray]:
    rows = [(int(row["agent_steps"]), float(row["episode_return"])) for row in csv.DictReader(whole_lines(path))]
    pairs = np.array(rows, dtype=np.float64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
