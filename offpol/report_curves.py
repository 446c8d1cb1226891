"""Figures of learning: aggregate curves over four axes, and each game's curves with every seed visible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from offpol.aggregates import Scores, estimates
from offpol.comparison import Comparison, Entrant
from offpol.reference_scores import human_random
from offpol.report_figures import GREY, LIGHT, SEED, colors, plain
from offpol.run_results import RunResult

AXES = {"agent steps": "agent steps", "frames": "frames", "minutes": "wall-clock (minutes)", "updates": "updates"}
RESAMPLES = 300
CONSTANT = "best constant action"
DASHES = ((0, (5, 2)), (0, (2, 1)), (0, (6, 1, 1, 1)))


def curves_figure(comparison: Comparison, finals: Mapping[str, float]) -> Figure | None:
    """Draw training scores over agent steps, frames, wall-clock and updates: IQM over runs and games, with bands.

    `finals` are lines at the published agents' final value. With one game that has no human reference, the raw
    mean over its runs. None where no agent has a curve in every game.
    """
    drawn = {name: _aggregate_curve(comparison, name) for name in colors(comparison)}
    drawn = {name: curve for name, curve in drawn.items() if not np.isnan(curve[0]).all()}
    if not drawn:
        return None
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    panels = figure.subplots(2, 2, sharey=True).ravel()
    for name, (value, low, high) in drawn.items():
        color = colors(comparison)[name]
        for axes, kind in zip(panels, AXES, strict=True):
            x = _mean([_axis(run, kind) for game in comparison.games for run in comparison.of(name, game)])
            axes.plot(x, value, color=color, label=name, lw=2)
            axes.fill_between(x, low, high, color=color, alpha=0.2, lw=0)
    for axes, kind in zip(panels, AXES, strict=True):
        for name, final in finals.items():
            axes.axhline(final, color=GREY, lw=1, ls="--")
            place = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
            axes.annotate(name, (1, final), fontsize=7, color=GREY, **place)
        axes.set_xlabel(AXES[kind])
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(alpha=0.3)
        plain(axes)
    for axes in panels[::2]:
        axes.set_ylabel("IQM of human-normalised score" if comparison.normalised else "raw return")
    panels[0].legend(frameon=False, fontsize=9)
    return figure


def _aggregate_curve(comparison: Comparison, agent: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return IQM over runs and games and its interval at each point [P]; NaN where a game has no score yet."""
    curves = {
        game: np.array([comparison.normalise(game, run.curve[1]) for run in comparison.of(agent, game)])
        for game in comparison.games
    }
    out = np.full((3, max((c.shape[-1] for c in curves.values() if c.size), default=0)), np.nan)
    for point in range(out.shape[1]):
        now: Scores = {g: c[:, point][~np.isnan(c[:, point])] for g, c in curves.items() if c.size}
        if len(now) == len(curves) and all(len(runs) for runs in now.values()):
            value, interval = estimates(now, SEED, RESAMPLES)["IQM" if comparison.normalised else "mean"]
            out[:, point] = value, *(interval or (value, value))
    return out[0], out[1], out[2]


def _axis(run: RunResult, kind: str) -> np.ndarray:
    """Return where the points of a run's curve lie on an axis [P]; NaN beyond what was logged."""
    points = run.curve[0]
    logged = run.axes
    if not len(logged["agent steps"]):
        return np.full(len(points), np.nan)
    return np.interp(points, logged["agent steps"], logged[kind], right=np.nan)


def _mean(values: Sequence[np.ndarray]) -> np.ndarray:
    """Average over the first axis what is not NaN; NaN where nothing is."""
    stacked = np.array(values)
    count = (~np.isnan(stacked)).sum(axis=0)
    return np.divide(np.nansum(stacked, axis=0), count, out=np.full(stacked.shape[1:], np.nan), where=count > 0)


def games_figure(comparison: Comparison, neighbours: Sequence[Entrant], kind: str = "agent steps") -> Figure:
    """Draw each game in a panel: every seed thin, their mean thick, final scores as dots, references as lines."""
    columns = min(3 if len(comparison.games) < 7 else 4, len(comparison.games))
    count = -(-len(comparison.games) // columns)
    figure = Figure(figsize=(2.9 * columns + 0.4, 2.3 * count + 0.6), layout="constrained")
    panels = figure.subplots(count, columns, squeeze=False).ravel()
    for axes, game in zip(panels, comparison.games, strict=False):
        for name, color in colors(comparison).items():
            _seeds(axes, comparison.of(name, game), color, name, comparison.statistic, kind)
        _references(axes, comparison, game, neighbours)
        axes.set_title(game, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        plain(axes)
    for axes in panels[len(comparison.games) :]:
        axes.set_axis_off()
    legend = {label: h for axes in panels for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if legend:
        figure.legend(legend.values(), legend.keys(), loc="outside upper center", ncols=6, frameon=False, fontsize=8)
    figure.supxlabel(AXES[kind], fontsize=9)
    figure.supylabel("raw return of full games", fontsize=9)
    return figure


def _seeds(axes: Axes, runs: Sequence[RunResult], color: str, name: str, statistic: str, kind: str) -> None:
    if not runs:
        return
    curves = [run.curve[1] for run in runs]
    x = [_axis(run, kind) for run in runs]
    for points, curve in zip(x, curves, strict=True):
        axes.plot(points, curve, color=color, lw=0.7, alpha=0.45)
    axes.plot(_mean(x), _mean(curves), color=color, lw=1.8, label=name)
    scored = [(ends[~np.isnan(ends)], run.score(statistic)) for run, ends in zip(runs, x, strict=True)]
    dots = [(ends[-1], score) for ends, score in scored if len(ends) and score is not None]
    if dots:
        axes.plot(*zip(*dots, strict=True), "o", color=color, markersize=3.5, mec="white", mew=0.5, clip_on=False)


def _references(axes: Axes, comparison: Comparison, game: str, neighbours: Sequence[Entrant]) -> None:
    """Draw human and random play, the best constant action and a few published agents as lines."""
    lines: list[tuple[str, float, Any, str]] = [
        (e.name, float(e.scores[game].mean()), dash, GREY)
        for e, dash in zip(neighbours, DASHES, strict=False)
        if game in e.scores
    ]
    constant = [e for e in comparison.entrants if e.name == CONSTANT and game in e.scores]
    lines += [(CONSTANT, float(e.scores[game].mean()), ":", "#A05A2C") for e in constant]
    if comparison.normalised:
        reference = human_random()[game]
        lines += [("human", reference.human, "-", LIGHT), ("random", reference.random, ":", LIGHT)]
    bottom, top = axes.get_ylim()
    for name, value, style, color in lines:
        if bottom - (top - bottom) <= value <= top + 1.5 * (top - bottom):
            axes.axhline(value, ls=style, color=color, lw=1, label=name, zorder=0)
