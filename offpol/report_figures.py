"""Figures of scores: aggregates, performance profiles, probabilities of improvement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offpol.aggregates import AGGREGATES, Estimate, profile
from offpol.comparison import Comparison, Entrant

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#4D4D4D")  # Okabe & Ito
GREY, LIGHT = "#8A8A8A", "#C8C8C8"
SEED = 0  # of every bootstrap in a report


def colors(comparison: Comparison) -> dict[str, str]:
    """Return a color for each agent of ours."""
    return {entrant.name: COLORS[i % len(COLORS)] for i, entrant in enumerate(comparison.agents)}


def aggregates_figure(comparison: Comparison, found: Mapping[str, Mapping[str, Estimate]]) -> Figure:
    """Draw every aggregate of every entrant as a point on its interval, entrants sorted by the first aggregate."""
    names = sorted(found, key=lambda name: found[name]["IQM"].value)
    figure = Figure(figsize=(11, 1.3 + 0.3 * len(names)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(AGGREGATES), sharey=True))
    palette = colors(comparison)
    for axes, aggregate in zip(panels, AGGREGATES, strict=True):
        for row, name in enumerate(names):
            value, interval = found[name][aggregate]
            color = palette.get(name, GREY)
            if interval:
                axes.barh(row, interval[1] - interval[0], left=interval[0], height=0.6, color=color, alpha=0.4, lw=0)
            axes.plot([value], [row], "|" if interval else "d", color=color, markersize=11 if interval else 5, mew=2)
        axes.set_title(aggregate + (" (less is better)" if aggregate == "optimality gap" else ""), fontsize=10)
        axes.grid(axis="x", alpha=0.3)
        plain(axes)
    panels[0].set_yticks(range(len(names)), names)
    figure.supxlabel("human-normalised score", fontsize=9)
    return figure


def profile_figure(comparison: Comparison, entrants: Sequence[Entrant]) -> Figure:
    """Draw the share of runs that score above tau, with 95% bands for our agents."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    palette = colors(comparison)
    scored = {entrant.name: comparison.comparable(entrant) or {} for entrant in entrants}
    ours = [scores for name, scores in scored.items() if name in palette] or list(scored.values())
    top = max(1.0, float(np.percentile(np.concatenate([np.concatenate(list(s.values())) for s in ours]), 97)))
    taus = np.linspace(0, 1.1 * top, 121)
    for name, scores in scored.items():
        share, band = profile(scores, taus, SEED)
        if name in palette:
            axes.plot(taus, share, color=palette[name], label=name, lw=2)
            axes.fill_between(taus, *band, color=palette[name], alpha=0.2, lw=0)
        else:
            axes.plot(taus, share, color=GREY, lw=1, ls="--")
            visible = int(np.argmax(share < 0.5))
            axes.annotate(name, (taus[visible], share[visible]), fontsize=7, color=GREY)
    axes.axvline(1, color=LIGHT, lw=1)
    axes.set(xlabel="human-normalised score tau", ylabel="share of runs above tau", ylim=(-0.02, 1.02), xlim=(0, None))
    axes.legend(frameon=False, fontsize=9)
    plain(axes)
    return figure


class Improvement(NamedTuple):
    """P(a run of `better` beats a run of `than`)."""

    better: str
    than: str
    estimate: Estimate


def improvement_figure(comparison: Comparison, found: Sequence[Improvement]) -> Figure:
    """Draw the probabilities of improvement with their intervals; 0.5 is a coin."""
    figure = Figure(figsize=(9, 1.3 + 0.28 * len(found)), layout="constrained")
    axes = figure.add_subplot()
    palette = colors(comparison)
    for row, (better, _, (value, interval)) in enumerate(reversed(found)):
        color = palette.get(better, GREY)
        if interval:
            axes.barh(row, interval[1] - interval[0], left=interval[0], height=0.6, color=color, alpha=0.4, lw=0)
        axes.plot([value], [row], "|" if interval else "d", color=color, markersize=10 if interval else 5, mew=2)
    axes.set_yticks(range(len(found)), [f"{one.better}  >  {one.than}" for one in reversed(found)], fontsize=9)
    axes.axvline(0.5, color=LIGHT, lw=1)
    axes.set(xlim=(0, 1), xlabel="P(a run of the left beats a run of the right), mean over games")
    plain(axes)
    return figure


def plain(axes: Axes) -> None:
    """Take the box away."""
    axes.spines[["top", "right"]].set_visible(False)
