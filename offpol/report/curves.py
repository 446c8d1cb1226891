"""Figures of learning: aggregate curves over four axes, and each game's curves with every seed visible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, StrMethodFormatter

from offpol.drawing import FONT, GREY, LIGHT, plain
from offpol.record.run_results import RunResult
from offpol.report.aggregates import Scores, estimates
from offpol.report.comparison import Comparison, Entrant
from offpol.report.figures import DASHES, SEED, Panels, legible, panels, styles

AXES = {"agent steps": "agent steps", "frames": "frames", "minutes": "wall-clock (minutes)", "updates": "updates"}
RESAMPLES = 300
CONSTANT = "best constant action"
BROWN = "#A05A2C"  # of the best constant action


def curves_figure(comparison: Comparison, finals: Mapping[str, float]) -> Panels | None:
    """Draw training scores over agent steps, frames, wall-clock and updates: IQM over runs and games, with bands.

    `finals` are lines at the published agents' final value. Of one game without a scale the raw mean over its runs.
    None where no agent has a curve in every game.
    """
    drawn = {name: _aggregate_curve(comparison, name) for name in styles(comparison)}
    drawn = {name: curve for name, curve in drawn.items() if not np.isnan(curve[0]).all()}
    if not drawn:
        return None
    ylabel = f"IQM of {comparison.scale.name}" if comparison.scale else "raw return"

    def draw(number: int, axes: Axes, labelled: bool) -> None:
        kind = list(AXES)[number]
        for name, (value, low, high) in drawn.items():
            runs = [run for game in comparison.games for run in together(comparison.of(name, game))]
            x = np.mean([_axis(run, kind) for run in runs], axis=0)
            axes.plot(x, value, **styles(comparison)[name], lw=1.8)
            axes.fill_between(x, low, high, color=styles(comparison)[name]["color"], alpha=0.2, lw=0)
        for (name, final), dash in zip(finals.items(), DASHES, strict=False):
            axes.axhline(final, color=GREY, lw=1, ls=dash, label=legible(name), zorder=0)
        axes.set_xlabel(AXES[kind])
        axes.set_ylabel(ylabel if labelled else "")
        axes.set_xlim(left=0)
        _label_numbers(axes, kind)
        plain(axes, grid="both")

    return panels(len(AXES), 2, 4.2, 2.7, draw, legend=True)


def _label_numbers(axes: Axes, kind: str) -> None:
    """Shorten counts to 100k; of minutes "m" would mean thousandths."""
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}") if kind == "minutes" else EngFormatter(sep=""))


def _aggregate_curve(comparison: Comparison, agent: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return IQM over runs and games and its interval at each point [P]; NaN where one of these runs has no score."""
    curves = {
        game: np.array([comparison.normalise(game, run.curve[1]) for run in together(comparison.of(agent, game))])
        for game in comparison.games
    }
    out = np.full((3, max((c.shape[-1] for c in curves.values() if c.size), default=0)), np.nan)
    for point in range(out.shape[1]):
        now: Scores = {game: curve[:, point] for game, curve in curves.items() if curve.size}
        if len(now) == len(curves) and not any(np.isnan(runs).any() for runs in now.values()):
            value, interval = estimates(now, SEED, RESAMPLES)["IQM" if comparison.scale else "mean"]
            out[:, point] = value, *(interval or (value, value))
    return out[0], out[1], out[2]


def _axis(run: RunResult, kind: str) -> np.ndarray:
    """Return where the points of a run's curve lie on an axis [P]; NaN beyond what was logged."""
    points = run.curve[0]
    logged = run.axes
    if not len(logged["agent steps"]):
        return np.full(len(points), np.nan)
    axis: np.ndarray = np.interp(points, [0, *logged["agent steps"]], [0, *logged[kind]], right=np.nan)
    return axis


def together(runs: Sequence[RunResult]) -> list[RunResult]:
    """Choose the runs of an agent and game that a mean curve is of, the same ones at each of its points.

    A mean over whoever has come so far would jump where a run stops.
    """
    return [run for run in runs if run.finished] or [run for run in runs if run.reached]


def games_figure(comparison: Comparison, neighbours: Sequence[Entrant], kind: str = "agent steps") -> Panels:
    """Draw each game in a panel: every seed thin, their mean thick, final scores as dots, references as lines."""
    columns = min(3 if len(comparison.games) < 7 else 4, len(comparison.games))

    def draw(number: int, axes: Axes, labelled: bool) -> None:
        game = comparison.games[number]
        for name, style in styles(comparison).items():
            _seeds(axes, comparison.of(name, game), style, comparison.statistic, kind)
        _references(axes, comparison, game, neighbours)
        axes.set_title(legible(game), fontsize=FONT + 1)
        axes.set_ylabel("raw return" if labelled else "")
        axes.set_xlabel(AXES[kind] if number >= len(comparison.games) - columns else "")
        axes.set_xlim(left=0)
        _label_numbers(axes, kind)
        if axes.get_ylim()[1] >= 10_000:
            axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        plain(axes)

    return panels(len(comparison.games), columns, 2.6, 1.9, draw, legend=True)


def _seeds(axes: Axes, runs: Sequence[RunResult], style: dict[str, Any], statistic: str, kind: str) -> None:
    if not runs:
        return
    color = style["color"]
    x = [_axis(run, kind) for run in runs]
    for points, run in zip(x, runs, strict=True):
        axes.plot(points, run.curve[1], color=color, lw=0.7, alpha=0.45)
    if averaged := together(runs):
        mean_x = np.mean([_axis(run, kind) for run in averaged], axis=0)
        axes.plot(mean_x, np.mean([run.curve[1] for run in averaged], axis=0), **style, lw=1.6)
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
    idle = {entrant.name: entrant.scores[game] for entrant in comparison.entrants
            if entrant.kind == "baseline" and game in entrant.scores}  # fmt: skip
    if CONSTANT in idle:
        lines.append((CONSTANT, float(idle[CONSTANT].mean()), (0, (5, 1, 1, 1)), BROWN))
    if comparison.scale and comparison.of_humans:
        reference = comparison.scale.references[game]
        lines += [("human", reference.goal, "-", LIGHT), ("random", reference.random, (0, (1, 3)), LIGHT)]
    elif "random" in idle:
        lines.append(("random", float(idle["random"].mean()), (0, (1, 3)), LIGHT))
    bottom, top = axes.get_ylim()
    for name, value, style, color in lines:
        if bottom - (top - bottom) <= value <= top + 1.5 * (top - bottom):
            axes.axhline(value, ls=style, color=color, lw=1, label=legible(name), zorder=0)
