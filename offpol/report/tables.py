"""The tables that a person reads: aggregates, games, and runs one by one."""

from __future__ import annotations

from collections.abc import Mapping

from offpol.record.run_results import RunResult
from offpol.report.aggregates import AGGREGATES, Estimate
from offpol.report.comparison import Comparison, Entrant
from offpol.report.pages import Table

RUN_HEADER = (
    "agent", "game", "seed", "agent steps", "final score", "games", "last 100 training games", "trace length",
    "replay ratio", "minutes", "agent steps/s", "commit",
)  # fmt: skip
AGGREGATED = (
    "Brackets: 95% stratified bootstrap intervals over runs and games. No interval where a game has one run. "
    "Optimality gap: less is better."
)
OF_MEANS = " *: computed from games' means, which is not comparable with an IQM over runs (it tends to be higher)."
UNSTATED = " †: its source does not state all of its protocol (see below)."
OTHERWISE = " ‡: it was measured a little otherwise (see the notes)."
RUNS = "Final scores are of the final policy, never the best on the way; unfinished runs are listed without one."


def aggregate_table(comparison: Comparison, found: Mapping[str, Mapping[str, Estimate]]) -> Table:
    """Return a row for each entrant, the best first; who lacks a game has no aggregate."""
    rows, dim = [], set()
    for i, entrant in enumerate(sorted(comparison.entrants, key=lambda one: _rank(found.get(one.name)))):
        if entrant.kind != "agent":
            dim.add(i)
        estimates = found.get(entrant.name)
        cells = [interval(estimates[name]) for name in AGGREGATES] if estimates else ["—"] * len(AGGREGATES)
        if estimates and not entrant.of_runs:
            cells[0] += " *"
        total = len(comparison.games)
        games = f"{total - len(entrant.missing(comparison.games))} of {total}"
        name = f"**{entrant.name}**" if entrant.kind == "agent" else entrant.name
        rows.append([name + entrant.marks, *cells, _runs_per_game(entrant), games])
    said = "".join(cell for row in rows for cell in row)
    caption = (
        AGGREGATED + OF_MEANS * ("*" in said.replace("**", "")) + UNSTATED * ("†" in said) + OTHERWISE * ("‡" in said)
    )
    return Table(["", *AGGREGATES, "runs per game", "games"], rows, caption, frozenset(dim))


def _rank(estimates: Mapping[str, Estimate] | None) -> float:
    return -estimates["IQM"].value if estimates else float("inf")


def _runs_per_game(entrant: Entrant) -> str:
    if not entrant.of_runs:
        return "means only"
    counts = sorted({len(runs) for runs in entrant.scores.values()}) or [0]
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def game_table(comparison: Comparison) -> Table:
    """Return a row for each game: raw scores of agents, of who does not learn, of published agents."""
    columns = [
        entrant for kind in ("agent", "baseline", "published") for entrant in comparison.entrants
        if entrant.kind == kind
    ]  # fmt: skip
    references = comparison.scale.references if comparison.scale and comparison.of_humans else {}
    rows = [
        [game, *([number(value) for value in references[game]] if references else []),
         *(score(entrant, game) for entrant in columns)]
        for game in comparison.games
    ]  # fmt: skip
    names = [f"**{one.name}**" if one.kind == "agent" else one.name for one in columns]
    if references:
        names = ["random", "human", *("random, measured" if name == "random" else name for name in names)]
    return Table(["game", *names], rows, "Raw scores: mean ± standard deviation over runs (number of runs).")


def run_table(comparison: Comparison) -> Table:
    """Return a row for each run, hidden at first."""
    rows = sorted(_run_row(labelled.agent, labelled.run) for labelled in comparison.runs)
    return Table(RUN_HEADER, rows, RUNS, fold=f"{len(rows)} run{'s' * (len(rows) != 1)}, one by one")


def _run_row(agent: str, run: RunResult) -> list[str]:
    row = run.last_row
    commit = run.info.get("git") or {}
    changed = "+" if commit.get("dirty") else ""
    speed = row["agent_steps"] / row["machine/wall_s"] if row.get("machine/wall_s") else None
    found, without = run.evaluation, "not evaluated" if run.finished else "unfinished"
    return [
        agent, run.game, str(run.seed), f"{run.reached:,}", number(found["mean"]) if found else without,
        str(found["episodes"]) if found else "", number(row.get("episode_return")), number(row.get("trace_length")),
        number(row.get("replay_ratio")), number(row["machine/wall_s"] / 60 if speed else None), number(speed),
        (commit.get("commit") or "")[:7] + changed,
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------- cells


def interval(estimate: Estimate) -> str:
    """Write 0.33 [0.30, 0.36]."""
    value, bounds = estimate
    return f"{value:.2f}" + (f" [{bounds[0]:.2f}, {bounds[1]:.2f}]" if bounds else "")


def score(entrant: Entrant, game: str) -> str:
    """Write mean ± standard deviation (runs) of an entrant's raw scores in a game."""
    runs = entrant.scores.get(game)
    if runs is None:
        return "—"
    mean = float(runs.mean())
    if len(runs) > 1:
        return f"{number(mean)} ± {number(float(runs.std(ddof=1)), like=mean)} ({len(runs)})"
    return number(mean) + (" (1)" if entrant.of_runs else "")


def number(value: float | None, like: float | None = None) -> str:
    """Write a number with the digits that tell something, as many as `like` would get; nothing for None."""
    if value is None:
        return ""
    size = abs(value if like is None else like)
    return f"{value:,.{2 if size < 10 else 1 if size < 1000 else 0}f}"
