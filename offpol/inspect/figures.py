"""Figures of a checkpoint: operators compared, ratios and trace lengths by age, Q against what really came."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from offpol.drawing import ENDS, GREY, LIGHT, OTHER, OWN, look, plain
from offpol.inspect import tables
from offpol.inspect.inspection import Windows

DPI = 140
RHO_COLORS = ("#B2182B", "#EF8A62", "#FDDBC7", "#D1E5F0", "#2166AC")  # cut .. kept .. clipped
LENGTH_COLORS = ("#B2182B", "#FEE8C8", "#C7E9B4", "#7FCDBB", "#41B6C4", "#225EA8")  # one step .. long


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG."""
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DPI, facecolor="white")
    return path


def operators(windows: Windows, own: str) -> Figure:
    """Draw what each operator returns on the same windows, how long its traces are, and all pairs' distances."""
    rows = tables.operator_rows(windows, own)[::-1]
    known = not np.isnan(windows.monte_carlo).all()
    figure = Figure(figsize=(13.5, 6.2), layout="constrained")
    left, spread, length, grid = figure.subplots(1, 4, width_ratios=(1.15, 0.9, 0.9, 2.1))
    for axes in (left, spread, length):
        plain(axes, grid="x")
        axes.set_ylim(-0.6, len(rows) - 0.4)
    y = np.arange(len(rows))
    colors = [OWN if row["operator"] == own else OTHER for row in rows]
    key, error = ("minus_monte_carlo", "two_standard_errors") if known else ("mean", None)
    values = np.array([row[key] for row in rows], dtype=float)
    errors = np.array([row[error] for row in rows], dtype=float) if error else np.zeros(len(rows))
    left.errorbar(values, y, xerr=errors, fmt="none", ecolor=LIGHT, elinewidth=3, capsize=0)
    left.scatter(values, y, c=colors, s=42, zorder=3)
    if known:
        left.axvline(0, color=GREY, lw=1)
    left.set_title("mean return - Monte Carlo" if known else "mean return", fontsize=10)
    for axes, column, title in (
        (spread, "std", "standard deviation"), (length, "trace_length", "rewards used (trace length)"),
    ):  # fmt: skip
        numbers = [row[column] for row in rows]
        axes.barh(y, numbers, color=colors, height=0.62)
        for place, number in zip(y, numbers, strict=True):
            axes.text(number, place, f" {number:.2f}", va="center", fontsize=8, color="#444444")
        axes.set_title(title, fontsize=10)
        axes.set_xlim(0, 1.22 * max(numbers) or 1)
        axes.set_yticks([])
    left.set_yticks(y, [str(row["operator"]) for row in rows])
    for label, row in zip(left.get_yticklabels(), rows, strict=True):
        label.set(color=OWN if row["operator"] == own else "black", weight="bold" if row["operator"] == own else None)
    _distances(grid, windows)
    number = int((~np.isnan(windows.monte_carlo)).sum())
    figure.suptitle(
        f"Every operator on the same {len(windows.age_updates):,} windows of {windows.inputs.q.shape[1]} transitions; "
        f"{own} is the run's own; Monte Carlo returns known for {number:,}",
        fontsize=11, x=0.01, ha="left",
    )  # fmt: skip
    return figure


def _distances(axes: Axes, windows: Windows) -> None:
    names, values = tables.distances(windows)
    if np.isnan(values[-1]).all():
        names, values = names[:-1], values[:-1, :-1]
    shown = np.where(np.isnan(values), 0.0, values)
    top = np.percentile(shown, 95) or 1.0
    plain(axes)
    axes.imshow(shown, cmap="YlGnBu", vmax=top, aspect="auto")
    for i, line in enumerate(shown):
        for j, value in enumerate(line):
            if i != j:
                axes.text(j, i, f"{value:.2f}".lstrip("0") if value < 10 else f"{value:.0f}", ha="center", va="center",
                          fontsize=6.5, color="white" if value > 0.6 * top else "#333333")  # fmt: skip
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("root mean square distance between returns", fontsize=10)


def by_age(windows: Windows, own: str) -> Figure:
    """Draw classes of rho and of the run's own trace lengths, every operator's mean length, and what ended returns."""
    rows = tables.age_rows(windows, own)
    figure = Figure(figsize=(16.5, 3.8 + 0.07 * len(windows.lengths)), layout="constrained")
    left, second, middle, right = figure.subplots(1, 4, width_ratios=(1, 1, 1.4, 1))
    _stack(left, tables.rho_shares(windows).T, dict(zip(tables.RHO_CLASSES, RHO_COLORS, strict=True)))
    left.set_title("rho = pi/mu of the logged actions", fontsize=10)
    used = tables.length_shares(windows, own).T
    _stack(second, used, dict(zip(tables.LENGTH_CLASSES, LENGTH_COLORS, strict=True)))
    second.set_title(f"rewards that the returns of {own} used", fontsize=10)
    _lengths(middle, rows, list(windows.lengths), own)
    _stack(
        right, np.array([[row[f"ended_by_{reason}"] for row in rows] for reason in ENDS], dtype=float),
        {end.label: end.color for end in ENDS.values()},
    )  # fmt: skip
    right.set_title(f"what ended the returns of {own}", fontsize=10)
    for axes in (left, second, middle, right):
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=3, frameon=False, fontsize=8)
        _age_axis(axes, rows, grid="both" if axes is middle else "")
    return figure


def _lengths(axes: Axes, rows: list[tables.Row], names: list[str], own: str) -> None:
    """Draw each operator's trace length by age, the run's own as a broad line; the legend is ordered by the last."""
    for name in sorted(names, key=lambda name: -rows[-1][f"length_{name}"]):
        numbers = [row[f"length_{name}"] for row in rows]
        broad = {"color": OWN, "lw": 4.5, "alpha": 0.75, "zorder": 1.9}
        axes.plot(numbers, label=name, **(broad if name == own else look(names.index(name)) | {"lw": 1.4}))
    axes.set_title("trace length: rewards used, on average", fontsize=10)


def _stack(axes: Axes, shares: np.ndarray, colors: dict[str, str]) -> None:
    """Draw shares [classes, parts] as stacked bars."""
    bottom = np.zeros(shares.shape[1])
    for share, (name, color) in zip(shares, colors.items(), strict=True):
        axes.bar(np.arange(len(share)), share, bottom=bottom, color=color, label=name, width=0.86)
        bottom += share
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def _age_axis(axes: Axes, rows: list[tables.Row], grid: str) -> None:
    plain(axes, grid)
    ages = [row["age_updates"] for row in rows]
    labels = [f"{age:.0f}" if age < 1000 else EngFormatter(sep="", places=1)(age) for age in ages]
    axes.set_xticks(range(len(rows)), labels)
    axes.set_xlabel("sample age (updates), in equal parts", fontsize=9)


def values(windows: Windows, own: str) -> Figure:
    """Draw Q and the run's own returns against what really came, and their gap by sample age."""
    rows = tables.age_rows(windows, own)
    known = ~np.isnan(windows.monte_carlo)
    figure = Figure(figsize=(11.5, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    if not known.any():
        for axes in (left, right):
            axes.set_axis_off()
        left.text(0, 0.5, "No drawn window's episode has ended within the stored rows:\nnothing to compare Q with.")
        return figure
    truth, q, age = windows.monte_carlo[known], windows.q[known], windows.age_updates[known]
    order = np.random.default_rng(0).permutation(len(q))  # so that no age lies on top
    dots = left.scatter(truth[order], q[order], c=age[order], s=9, alpha=0.6, cmap="viridis", linewidths=0)
    span = [min(truth.min(), q.min()), max(truth.max(), q.max())]
    left.plot(span, span, "--", color=GREY, lw=1)
    left.set(xlabel="Monte Carlo return of what was really done", ylabel="Q of the target network")
    figure.colorbar(dots, ax=left, label="sample age (updates)", shrink=0.85, format=EngFormatter(sep=""))
    x = np.arange(len(rows))
    gaps = np.array([row["q_minus_monte_carlo"] for row in rows], dtype=float)
    errors = np.array([row["two_standard_errors"] for row in rows], dtype=float)
    right.axhline(0, color=GREY, lw=1)
    right.fill_between(x, gaps - errors, gaps + errors, color=OTHER, alpha=0.18, lw=0)
    right.plot(x, gaps, "o-", color=OTHER, label="Q - Monte Carlo (band: 2 standard errors)")
    mine = windows.returns[own] - windows.monte_carlo
    right.plot(x, [tables.Mean.of(mine[part]).value for part in tables.age_bins(windows)], "s--", color=OWN,
               markersize=4, label=f"return of {own} - Monte Carlo")  # fmt: skip
    right.legend(frameon=False, fontsize=8)
    right.set_title("the gap by sample age", fontsize=10)
    _age_axis(right, rows, grid="both")
    plain(left)
    return figure
