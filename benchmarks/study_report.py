"""From the study's finished runs to its tables and figure; docs/study.md shows what comes out.

    python benchmarks/study_report.py runs/study/core --name core
    python benchmarks/study_report.py runs/study/core --name core --keep    # and what another machine's runs wrote

Reads the runs of a suite whose grid is operators x ages x behaviors, and writes docs/study/NAME.csv (a row per run),
docs/study/NAME.png, and the tables between `<!-- study NAME -->` and `<!-- end -->` in docs/study.md. Scores are of the
final policy; brackets are 95% bootstrap intervals over seeds, stratified by game.
With several games a score is (score - random) / (best - random), where best is the best cell's mean in that game.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offpol.bench.suite import load_suite
from offpol.record.bench_plan import plan_above, read_plan
from offpol.record.run_labels import collect, named
from offpol.record.run_results import RunResult
from offpol.reference_scores import baselines
from offpol.report.aggregates import Estimate, estimates

DOCS = Path(__file__).parent.parent / "docs"
METRICS = (
    "trace_length", "trace_length_uncut", "trace_end/window", "trace_end/episode", "trace_end/exploration",
    "trace_end/policy_change", "trace_end/faded", "rho_ess", "sample_age_updates", "value_mean",
)  # fmt: skip
HEADER = ("operator", "age", "behavior", "game", "seed", "score", "auc", *METRICS, "train_s")
COLORS = {"fresh": "#009E73", "old": "#0072B2", "very old": "#D55E00"}
GREY = "#8A8A8A"
Cell = tuple[str, str, str]  # operator, age, behavior


class Finished(NamedTuple):
    """One finished run; `auc` is the mean of its training curve (`RunResult.curve`)."""

    cell: Cell
    game: str
    seed: int
    score: float
    auc: float
    metrics: Mapping[str, float]
    seconds: float


def finished(paths: Sequence[str]) -> tuple[list[Finished], int]:
    """Return the runs with a final score, and how many of those that were asked for have none."""
    found = named(collect(paths))
    runs, asked = [], {(one.run.agent, one.run.game, one.run.seed) for one in found}
    for plan in {plan_above(one.run.directory) for one in found} - {None}:
        asked |= {(agent, *pair) for agent, entry in read_plan(plan).items() for pair in entry.runs}
    for labelled in found:
        operator, age, behavior = [*labelled.agent.split(", "), "epsilon-greedy"][:3]
        if labelled.run.finished and labelled.run.score("final_evaluation") is not None:
            runs.append(_read((operator, age, behavior), labelled.run))
    return runs, len(asked) - len(runs)


def _read(cell: Cell, run: RunResult) -> Finished:
    late = run.late(0.2)
    curve = run.curve[1]
    return Finished(
        cell, run.game, run.seed, run.score("final_evaluation") or 0.0, float(np.nanmean(curve)),
        {name: late.get(name, float("nan")) for name in METRICS}, float(run.last_row["machine/wall_s"]),
    )  # fmt: skip


def kept(path: Path, beside: Sequence[Finished]) -> list[Finished]:
    """Return the runs of a table that `write` wrote, but those that are told anew."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    runs = [
        Finished(
            (row["operator"], row["age"], row["behavior"]), row["game"], int(row["seed"]), float(row["score"]),
            float(row["auc"]), {name: float(row[name]) for name in METRICS}, float(row["train_s"]),
        )
        for row in rows
    ]  # fmt: skip
    anew = {(run.cell, run.game, run.seed) for run in beside}
    return [run for run in runs if (run.cell, run.game, run.seed) not in anew]


def scaled(runs: Sequence[Finished], measure: str) -> dict[Cell, dict[str, np.ndarray]]:
    """Return each cell's numbers by game, one per run; relative to random and best where there are several games.

    A cell that has no run of a game is left out: it would be compared with others by other games.
    """
    raw: dict[Cell, dict[str, list[float]]] = {}
    for run in runs:
        raw.setdefault(run.cell, {}).setdefault(run.game, []).append(getattr(run, measure))
    games = sorted({run.game for run in runs})
    low, high = dict.fromkeys(games, 0.0), dict.fromkeys(games, 1.0)
    if len(games) > 1:
        low |= {
            row.game: row.mean
            for row in baselines()
            if (row.name, row.protocol) == ("random", "minatar") and row.game in games
        }
        for game in games:
            high[game] = max(float(np.mean(cell[game])) for cell in raw.values() if game in cell)
            if high[game] <= low[game]:
                raise SystemExit(f"study_report: no cell is above random play in {game}, so there is no scale for it.")
    return {
        cell: {game: (np.array(numbers) - low[game]) / (high[game] - low[game]) for game, numbers in by_game.items()}
        for cell, by_game in raw.items()
        if set(by_game) == set(games)
    }


def mean_of(by_game: Mapping[str, np.ndarray]) -> Estimate:
    """Average over games and runs, with its interval."""
    return estimates(by_game, 0, 4000)["mean"]


def names(runs: Sequence[Finished], part: int) -> list[str]:
    """List operators (0), ages (1) or behaviors (2) in the order in which the suite names them."""
    return list(dict.fromkeys(run.cell[part] for run in sorted(runs, key=lambda run: run.seed)))


def table(runs: Sequence[Finished], behavior: str) -> str:
    """Return Markdown: a row per operator, for each age score, area and trace length."""
    ages = [age for age in names(runs, 1) if any(run.cell[1:] == (age, behavior) for run in runs)]
    score, area = scaled(runs, "score"), scaled(runs, "auc")
    most = max(Counter(run.cell for run in runs).values())
    head = ["operator", *(f"{what}, {age}" for age in ages for what in ("score", "area", "trace length"))]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for operator in names(runs, 0):
        cells = []
        for age in ages:
            cell = operator, age, behavior
            if cell not in score:
                cells += ["", "", ""]
                continue
            few = len([run for run in runs if run.cell == cell])
            lengths = [run.metrics["trace_length"] for run in runs if run.cell == cell]
            count = f" ({few})" * (few < most)
            cells += [_shown(mean_of(score[cell])) + count, _shown(mean_of(area[cell])), f"{np.mean(lengths):.2f}"]
        lines.append("| " + " | ".join([operator, *cells]) + " |")
    return "\n".join(lines)


def overall(runs: Sequence[Finished]) -> str:
    """Return Markdown: a row per operator with all settings, the means of score and area over these, each alike.

    A setting is an age with a behavior; areas are also given of each age alone. Intervals are over seeds.
    """
    ages, settings = names(runs, 1), sorted({run.cell[1:] for run in runs})
    score, area = scaled(runs, "score"), scaled(runs, "auc")
    head = ["operator", "score", "area", *(f"area, {age}" for age in ages)]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for operator in names(runs, 0):
        if all((operator, *setting) in score for setting in settings):
            cells = [_over(score, operator, settings), _over(area, operator, settings)]
            cells += [_over(area, operator, [setting for setting in settings if setting[0] == age]) for age in ages]
            lines.append("| " + " | ".join([operator, *cells]) + " |")
    return "\n".join(lines)


def _over(scores: Mapping[Cell, Mapping[str, np.ndarray]], operator: str, settings: Sequence[tuple[str, str]]) -> str:
    """Average an operator's numbers over settings and games."""
    numbers = {f"{setting} {game}": runs for setting in settings for game, runs in scores[operator, *setting].items()}
    return _shown(mean_of(numbers))


def _shown(estimate: Estimate) -> str:
    value, interval = estimate
    return f"{value:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")


def text(runs: Sequence[Finished], missing: int) -> str:
    """Return what stands between the markers of docs/study.md."""
    games, seeds = sorted({run.game for run in runs}), sorted({run.seed for run in runs})
    minutes = sum(run.seconds for run in runs) / 60
    lacking = f"; {missing} more are not finished" if missing else ""
    counts = Counter(run.cell for run in runs).values()
    lacking += ", and (N) stands behind a score of fewer runs" * (min(counts) < max(counts))
    head = (
        f"{len(runs)} runs ({', '.join(games)}; seeds {', '.join(map(str, seeds))}), {minutes:.0f} minutes of training "
        f"in all{lacking}."
    )
    told = [head]
    for behavior in names(runs, 2):
        told += [f"**{behavior}**", table(runs, behavior)]
    if len(names(runs, 1)) > 1 and len(names(runs, 2)) > 1:
        told += ["**Means over all of these**", overall(runs)]
    return "\n\n".join(told)


def draw(runs: Sequence[Finished]) -> Figure:
    """Draw each behavior's scores by operator and age, every run a dot, the trace length beside."""
    operators, behaviors = names(runs, 0), names(runs, 2)
    figure = Figure(figsize=(5.2 * len(behaviors) + 1.4, 1.4 + 0.62 * len(operators)), layout="constrained")
    panels = figure.subplots(1, len(behaviors), sharey=True, squeeze=False)[0]
    score = scaled(runs, "score")
    for axes, behavior in zip(panels, behaviors, strict=True):
        ages = [age for age in names(runs, 1) if any(run.cell[1:] == (age, behavior) for run in runs)]
        for i, age in enumerate(ages):
            _draw_age(axes, runs, score, operators, (age, behavior), 0.26 * (i - (len(ages) - 1) / 2))
        axes.set_title(behavior, fontsize=11)
        axes.set_xlabel("score of the final policy" + (" (0 random, 1 the best cell)" if _several(runs) else ""))
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.16)
    panels[0].set_yticks(range(len(operators)), operators)
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def _draw_age(
    axes: Axes, runs: Sequence[Finished], score: Mapping[Cell, Mapping[str, np.ndarray]], operators: Sequence[str],
    setting: tuple[str, str], shift: float,
) -> None:  # fmt: skip
    color = COLORS.get(setting[0], GREY)
    labelled = next((operator for operator in operators if (operator, *setting) in score), None)
    for row, operator in enumerate(operators):
        cell = operator, *setting
        if cell not in score:
            continue
        value, interval = mean_of(score[cell])
        low, high = interval or (value, value)
        axes.plot([low, high], [row + shift] * 2, color=color, lw=4, alpha=0.35, solid_capstyle="butt")
        axes.plot(
            value, row + shift, "o", color=color, markersize=6, label=setting[0] if operator == labelled else None
        )
        for numbers in score[cell].values():
            axes.plot(numbers, [row + shift] * len(numbers), "|", color=color, markersize=6, alpha=0.8)
        length = np.mean([run.metrics["trace_length"] for run in runs if run.cell == cell])
        furthest = max(high, *(numbers.max() for numbers in score[cell].values()))
        axes.annotate(f"{length:.1f}", (furthest, row + shift), xytext=(6, 0), textcoords="offset points", fontsize=7,
                      color=color, va="center")  # fmt: skip


def _several(runs: Sequence[Finished]) -> bool:
    return len({run.game for run in runs}) > 1


def write(runs: Sequence[Finished], missing: int, name: str, docs: Path) -> None:
    """Write the CSV, the figure and the tables."""
    folder = docs / "study"
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for run in sorted(runs):
            numbers = (run.score, run.auc, *run.metrics.values(), run.seconds)
            writer.writerow((*run.cell, run.game, run.seed, *(f"{x:.6g}" for x in numbers)))
    draw(runs).savefig(folder / f"{name}.png", dpi=130, facecolor="white")
    page = docs / "study.md"
    marked = rf"(<!-- study {re.escape(name)} -->\n).*?(<!-- end -->)"
    old = page.read_text()
    if not re.search(marked, old, re.S):
        raise SystemExit(f"{page} has no place for it: add the lines <!-- study {name} --> and <!-- end -->.")
    page.write_text(re.sub(marked, lambda m: f"{m[1]}\n{text(runs, missing)}\n\n{m[2]}", old, flags=re.S))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", help="folders of runs")
    parser.add_argument("--name", required=True, help="of the files, and of the place in docs/study.md")
    parser.add_argument("--keep", action="store_true", help="the runs that docs/study/NAME.csv holds already")
    parser.add_argument("--docs", type=Path, default=DOCS, help="the folder of study.md (docs/)")
    args = parser.parse_args()
    runs, missing = finished(args.paths)
    if not runs:
        raise SystemExit("None of these runs is finished.")
    if args.keep:
        runs = [*kept(args.docs / "study" / f"{args.name}.csv", runs), *runs]
        order = {word: place for part in load_suite(f"study_{args.name}").grid for place, word in enumerate(part)}
        runs.sort(key=lambda run: [order.get(word, len(order)) for word in run.cell])  # a table is in no suite's order
    write(runs, missing, args.name, args.docs)
    print(text(runs, missing))
    print(f"\nWritten: {args.docs / 'study' / args.name}.csv and .png, and the tables in {args.docs / 'study.md'}")


if __name__ == "__main__":
    main()
