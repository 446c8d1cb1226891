"""Figures of scores: aggregates, performance profiles, probabilities of improvement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offpol.drawing import COLORS, FONT, GREY, LIGHT, LINES, plain
from offpol.report.aggregates import AGGREGATES, Estimate, profile
from offpol.report.comparison import Comparison, Entrant

SEED = 0  # of every bootstrap in a report
MAX_LETTERS = 56  # of a name
DASHES = ("--", "-.", ":")  # of published agents
WIDE_INCHES = 11.0  # of a figure of several panels
MOST_ENLARGED = 2.2  # a panel, where there are few
LETTER_INCHES = 0.06  # the width of one, in labels, about


def colors(comparison: Comparison) -> dict[str, str]:
    """Return a color for each agent of ours."""
    return {entrant.name: COLORS[i % len(COLORS)] for i, entrant in enumerate(comparison.agents)}


def styles(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Return how the line of each agent of ours is drawn; beyond the colors there are, dashes tell them apart."""
    labels = Counter(legible(name) for name in colors(comparison))
    return {
        name: {
            "color": color, "ls": LINES[i // len(COLORS) % len(LINES)],
            "label": legible(name) + f" ({i + 1})" * (labels[legible(name)] > 1),
        }
        for i, (name, color) in enumerate(colors(comparison).items())
    }  # fmt: skip


def legible(name: str) -> str:
    """Write a name as matplotlib shows it: $ is no formula, a leading _ does not hide it, and the middle may go."""
    half = MAX_LETTERS // 2
    short = name if len(name) <= MAX_LETTERS else f"{name[:half]}…{name[-half:]}"
    return ("\u200b" if short.startswith("_") else "") + short.replace("$", r"\$")


class Panels(NamedTuple):
    """A figure of several panels: the whole, and each panel by itself, for pages that lay them out as they fit."""

    whole: Figure
    alone: list[Figure]


def panels(
    count: int, columns: int, width: float, height: float, draw: Callable[[int, Axes, bool], None], legend: bool = False
) -> Panels:
    """Draw `count` panels of width x height inches, together and each alone.

    Args:
        draw: called with the panel's number, its axes, and whether it has to label its vertical axis.
        legend: put the handles of all panels above the whole; pages have their own.
    """
    rows = -(-count // columns)
    wide = min(WIDE_INCHES, MOST_ENLARGED * columns * width)
    tall = rows * height * max(1.0, wide / (columns * width))
    whole = Figure(layout="constrained")
    grid = whole.subplots(rows, columns, squeeze=False).ravel()
    for i, axes in enumerate(grid):
        if i < count:
            draw(i, axes, i % columns == 0)
        else:
            axes.set_axis_off()
    if legend:
        found = {label: h for axes in grid for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        across = _across(wide, found)
        tall += 0.17 * -(-len(found) // across)
        whole.legend(
            found.values(), found.keys(), loc="outside upper center", ncols=across, frameon=False, fontsize=FONT
        )
    whole.set_size_inches(wide, tall)
    alone = []
    for i in range(count):
        alone.append(Figure(figsize=(width, height), layout="constrained"))
        draw(i, alone[-1].add_subplot(), True)
    return Panels(whole, alone)


def _across(width: float, names: Collection[str]) -> int:
    """Return how many columns a legend of these names may have in so many inches."""
    longest = max((len(legible(name)) for name in names), default=0)
    return max(1, min(7, int(width / (0.6 + LETTER_INCHES * longest))))


def aggregates_figure(comparison: Comparison, found: Mapping[str, Mapping[str, Estimate]]) -> Panels:
    """Draw every aggregate of every entrant as a point on its interval, entrants sorted by the first aggregate."""
    names = sorted(found, key=lambda name: found[name]["IQM"].value)
    palette = colors(comparison)

    def draw(number: int, axes: Axes, labelled: bool) -> None:
        aggregate = list(AGGREGATES)[number]
        for row, name in enumerate(names):
            _point(axes, row, found[name][aggregate], palette.get(name, GREY))
        axes.set_title(aggregate + (" (less is better)" if aggregate == "optimality gap" else ""), fontsize=FONT + 1)
        axes.set_yticks(range(len(names)), map(legible, names) if labelled else [""] * len(names))
        axes.set_ylim(-0.7, len(names) - 0.3)
        left = min(0.0, *(low(found[name][aggregate]) for name in names))
        axes.set_xlim(left=left - 0.02 * (axes.get_xlim()[1] - left))
        plain(axes, grid="x")
        for tick, name in zip(axes.get_yticklabels(), names, strict=True):
            tick.set_color(palette.get(name, GREY))

    return panels(len(AGGREGATES), len(AGGREGATES), 4.2, 0.8 + 0.2 * len(names), draw)


def low(estimate: Estimate) -> float:
    """Return the lowest value that a drawing of an estimate shows."""
    return estimate.interval[0] if estimate.interval else estimate.value


def _point(axes: Axes, row: int, estimate: Estimate, color: str) -> None:
    value, interval = estimate
    if interval:
        axes.barh(row, interval[1] - interval[0], left=interval[0], height=0.55, color=color, alpha=0.35, lw=0)
    axes.plot([value], [row], "|" if interval else "d", color=color, markersize=9 if interval else 5, mew=2)


def profile_figure(comparison: Comparison, entrants: Sequence[Entrant]) -> Figure:
    """Draw the share of runs that score above tau, with 95% bands for our agents."""
    assert comparison.scale is not None
    figure = Figure(figsize=(4.4, 2.9), layout="constrained")
    axes = figure.add_subplot()
    palette = colors(comparison)
    scored = {entrant.name: comparison.comparable(entrant) or {} for entrant in entrants}
    ours = [scores for name, scores in scored.items() if name in palette] or list(scored.values())
    top = max(1.0, float(np.percentile(np.concatenate([np.concatenate(list(s.values())) for s in ours]), 97)))
    taus = np.linspace(0, 1.1 * top, 121)
    dashes = iter(DASHES)
    for name, scores in scored.items():
        share, band = profile(scores, taus, SEED)
        if name in palette:
            axes.plot(taus, share, **styles(comparison)[name], lw=1.8)
            axes.fill_between(taus, *band, color=palette[name], alpha=0.2, lw=0)
        else:
            axes.plot(taus, share, color=GREY, lw=1, ls=next(dashes), label=legible(name))
    axes.axvline(1, color=LIGHT, lw=1, zorder=0)
    axes.set(ylim=(-0.02, 1.02), xlim=(0, 1.1 * top))
    axes.set_xlabel(f"{comparison.scale.name} τ")
    axes.set_ylabel("share of runs above τ")
    across = _across(4.4, scored)
    figure.legend(frameon=False, fontsize=FONT, loc="outside lower center", ncols=across)
    figure.set_size_inches(4.4, 2.7 + 0.17 * -(-len(scored) // across))
    plain(axes)
    return figure


class Improvement(NamedTuple):
    """P(a run of `better` beats a run of `than`)."""

    better: str
    than: str
    estimate: Estimate


def improvement_figure(comparison: Comparison, found: Sequence[Improvement]) -> Figure:
    """Draw the probabilities of improvement with their intervals; 0.5 is a coin."""
    labels = [f"{legible(one.better)} > {legible(one.than)}" for one in reversed(found)]
    wide = max(4.4, 2.6 + LETTER_INCHES * max(map(len, labels)))
    figure = Figure(figsize=(wide, 0.9 + 0.22 * len(found)), layout="constrained")
    axes = figure.add_subplot()
    palette = colors(comparison)
    for row, (better, _, estimate) in enumerate(reversed(found)):
        _point(axes, row, estimate, palette.get(better, GREY))
    axes.set_yticks(range(len(found)), labels)
    axes.axvline(0.5, color=GREY, lw=1, zorder=0)
    axes.set(xlim=(0, 1), ylim=(-0.7, len(found) - 0.3))
    axes.set_xlabel("P(a run of the left beats a run of the right)")
    plain(axes, grid="x")
    return figure
