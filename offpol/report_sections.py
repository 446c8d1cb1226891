"""What a report says about a comparison, block by block."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from offpol.aggregates import AGGREGATES, Estimate, estimates, probability_of_improvement
from offpol.comparison import Comparison, Entrant
from offpol.published import STATISTICS
from offpol.reference_scores import human_random, table_hash
from offpol.report_curves import curves_figure, games_figure
from offpol.report_figures import SEED, Improvement, aggregates_figure, improvement_figure, profile_figure
from offpol.report_pages import Block, Figure, Fold, Heading, Table, Text, Warn
from offpol.run_results import RunResult

MAX_PUBLISHED_LINES = 3  # in a figure of curves: those nearest to the best agent
MAX_PAIRS = 24


class Section:
    """Everything about one comparison, computed once."""

    def __init__(self, comparison: Comparison, number: int) -> None:
        self.comparison, self.stem = comparison, f"{number}-"
        whole = [entrant for entrant in comparison.entrants if comparison.comparable(entrant) is not None]
        self.estimates: dict[str, dict[str, Estimate]] = {}
        if comparison.normalised:
            for entrant in whole:
                self.estimates[entrant.name] = estimates(comparison.comparable(entrant) or {}, SEED)
        self.with_runs = [entrant for entrant in whole if entrant.of_runs]
        self.improvements = self._improvements()

    def _improvements(self) -> list[Improvement]:
        """Compare our agents with each other, then with the nearest published agents whose runs are known."""
        mine = [entrant for entrant in self.with_runs if entrant.kind == "agent"]
        theirs = [entrant for entrant in self.neighbours() if entrant.of_runs]
        pairs = [*itertools.combinations(mine, 2), *itertools.product(mine, theirs)]
        return [
            Improvement(a.name, b.name, probability_of_improvement(a.scores, b.scores, SEED))
            for a, b in pairs[:MAX_PAIRS]
        ]

    def neighbours(self) -> list[Entrant]:
        """Choose the published agents whose aggregate is nearest to that of our best agent."""
        ours = [self.estimates[e.name]["IQM"].value for e in self.comparison.agents if e.name in self.estimates]
        published = [e for e in self.comparison.entrants if e.kind == "published" and e.name in self.estimates]
        if not ours:
            return []
        published.sort(key=lambda e: abs(self.estimates[e.name]["IQM"].value - max(ours)))
        return published[:MAX_PUBLISHED_LINES]

    # ----------------------------------------------------------------------------------------- blocks

    def blocks(self) -> list[Block]:
        """Return the section, from the headline to how it was measured."""
        c = self.comparison
        told: list[Block] = [Heading(2, c.title + ("" if c.statistic == "final_evaluation" else ": while training"))]
        told.append(Text(self.headline()))
        told += [Warn(text) for text in [*self._gaps(), *c.warnings]]
        if self.estimates:
            told += [Heading(3, "Aggregates"), self._aggregates(), self._aggregates_figure()]
        if self.estimates and self.with_runs:
            told += [Figure(self.stem + "profiles", profile_figure(c, self._profiled()), PROFILE)]
        if self.improvements:
            drawn = improvement_figure(c, self.improvements)
            told += [Heading(3, "Probability of improvement"), Figure(self.stem + "improvement", drawn, IMPROVEMENT)]
        told += [Heading(3, "Games"), self._games(), *self._curves()]
        told += [Heading(3, "How it was measured"), *self._protocol(), self._runs()]
        return told

    def headline(self) -> str:
        """Say the result in a sentence or two."""
        c = self.comparison
        scored = [f"**{name}** {_interval(found['IQM'])}" for name, found in self._ours().items()]
        what = STATISTICS[c.statistic]
        size = f"{_count(len(c.games), 'game')}, {_seeds(c.seeds)}; {what}"
        if scored:
            bracket = "95% intervals" if any("[" in text for text in scored) else "one run a game, so no intervals"
            return f"IQM of human-normalised scores: {'; '.join(scored)} ({bracket}). {size}."
        if c.normalised:
            return f"{size}; no agent has a score in every game, so there is no aggregate."
        means = [f"**{e.name}** {_score(e, c.games[0])}" for e in c.agents] if len(c.games) == 1 else []
        return "; ".join([*means, f"{size}; raw scores"]) + "."

    def _ours(self) -> dict[str, dict[str, Estimate]]:
        return {e.name: self.estimates[e.name] for e in self.comparison.agents if e.name in self.estimates}

    def _gaps(self) -> list[str]:
        """Say which games and seeds are missing, of each agent."""
        c, told = self.comparison, []
        for entrant in c.agents:
            lacking = []
            for game in c.games:
                done = {run.seed for run in c.of(entrant.name, game) if run.score(c.statistic) is not None}
                seeds = [seed for seed in c.asked_seeds(entrant.name) if seed not in done]
                if seeds:
                    lacking.append(f"{game} ({_seeds(seeds)})")
            if lacking:
                told.append(f"**{entrant.name}** lacks {'; '.join(lacking)}.")
        return told

    def _aggregates(self) -> Table:
        rows, dim = [], set()
        order = sorted(self.comparison.entrants, key=self._rank)
        for i, entrant in enumerate(order):
            if entrant.kind != "agent":
                dim.add(i)
            found = self.estimates.get(entrant.name)
            cells = [_interval(found[name]) for name in AGGREGATES] if found else ["—"] * len(AGGREGATES)
            if found and not entrant.of_runs:
                cells[0] += " *"
            total = len(self.comparison.games)
            games = f"{total - len(entrant.missing(self.comparison.games))} of {total}"
            name = f"**{entrant.name}**" if entrant.kind == "agent" else entrant.name
            rows.append([name + " †" * ("not stated" in entrant.remark), *cells, _runs_per_game(entrant), games])
        return Table(["", *AGGREGATES, "runs per game", "games"], rows, AGGREGATED, frozenset(dim))

    def _rank(self, entrant: Entrant) -> float:
        found = self.estimates.get(entrant.name)
        return -found["IQM"].value if found else float("inf")

    def _aggregates_figure(self) -> Figure:
        return Figure(self.stem + "aggregates", aggregates_figure(self.comparison, self.estimates), AGGREGATED_FIGURE)

    def _profiled(self) -> list[Entrant]:
        near = {entrant.name for entrant in self.neighbours()}
        return [entrant for entrant in self.with_runs if entrant.kind == "agent" or entrant.name in near]

    def _games(self) -> Table:
        c, rows = self.comparison, []
        columns = [*c.agents, *(e for e in c.entrants if e.kind == "baseline")]
        columns += [e for e in c.entrants if e.kind == "published"]
        for game in c.games:
            reference = [f"{value:,.1f}" for value in human_random()[game]] if c.normalised else []
            rows.append([game, *reference, *(_score(entrant, game) for entrant in columns)])
        header = ["game", *(["random", "human"] if c.normalised else []), *(self._column(e) for e in columns)]
        return Table(header, rows, "Raw scores: mean ± standard deviation over runs (number of runs).")

    def _column(self, entrant: Entrant) -> str:
        return f"{entrant.name} (measured)" if entrant.name == "random" else entrant.name

    def _curves(self) -> list[Block]:
        c = self.comparison
        told: list[Block] = []
        if (c.normalised or len(c.games) == 1) and any(run.run.reached for run in c.runs):
            finals = {e.name: self.estimates[e.name]["IQM"].value for e in self.neighbours()}
            drawn = curves_figure(c, finals)
            told += [Figure(self.stem + "curves", drawn, CURVES)] if drawn else []
        told.append(Figure(self.stem + "games", games_figure(c, self.neighbours()), GAMES))
        if not c.normalised and len(c.games) > 1:
            told.append(Figure(self.stem + "games-time", games_figure(c, [], "minutes"), "The same over wall-clock."))
        return told

    def _runs(self) -> Table:
        rows = [_run_row(labelled.agent, labelled.run) for labelled in self.comparison.runs]
        return Table(RUN_HEADER, sorted(rows), RUNS, fold=f"{_count(len(rows), 'run')}, one by one")

    def _protocol(self) -> list[Block]:
        c = self.comparison
        lines = [f"{fact}: {value}" for fact, value in c.protocol.items()]
        if c.normalised:
            lines.append(f"human/random table: offpol/data/atari_human_random.csv, sha256 {table_hash()}")
        told: list[Block] = [Fold("Protocol of the runs", lines)]
        if c.remarks:
            told.append(Fold("Published agents: sources, and what is not known of their protocols", c.remarks))
        return told


RUN_HEADER = (
    "agent", "game", "seed", "agent steps", "final score", "games", "last 100 training games", "trace length",
    "replay ratio", "minutes", "agent steps/s", "commit",
)  # fmt: skip
AGGREGATED = (
    "Brackets: 95% stratified bootstrap intervals over runs and games. No interval where every game has one run. "
    "*: computed from games' means, which is not comparable with an IQM over runs (it tends to be higher). "
    "†: its source does not state all of its protocol (see below). Grey: not ours."
)
AGGREGATED_FIGURE = "Aggregates with 95% stratified bootstrap intervals; diamonds: one score per game, no interval."
PROFILE = "Performance profiles: the share of runs that score above tau, with 95% bands (published agents dashed)."
IMPROVEMENT = "Averaged over games, ties counting half, with 95% stratified bootstrap intervals; raw scores suffice."
CURVES = (
    "Training returns (with exploration, raw full games) over four measures of cost: means over games that ended in "
    "a window of a tenth of the budget, bands are 95% bootstrap intervals. Dashed: final scores of published agents."
)
GAMES = (
    "Each game: every seed thin, their mean thick, the final evaluation of each seed as a dot; lines: published agents "
    "nearest to ours, the best constant action, human and random play where they lie within reach."
)
RUNS = "Scores are of the final policy, never the best on the way; unfinished runs are listed without one."


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) != 1)} {', '.join(map(str, seeds))}"


def _interval(estimate: Estimate) -> str:
    value, interval = estimate
    return f"{value:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")


def _score(entrant: Entrant, game: str) -> str:
    runs = entrant.scores.get(game)
    if runs is None:
        return "—"
    if len(runs) > 1:
        return f"{runs.mean():,.1f} ± {runs.std(ddof=1):,.1f} ({len(runs)})"
    return f"{runs[0]:,.1f}" + (" (1)" if entrant.of_runs else "")


def _runs_per_game(entrant: Entrant) -> str:
    if not entrant.of_runs:
        return "means only"
    counts = sorted({len(runs) for runs in entrant.scores.values()}) or [0]
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _run_row(agent: str, run: RunResult) -> list[str]:
    row = run.last_row
    commit = run.info.get("git") or {}
    changed = "+" if commit.get("dirty") else ""
    speed = row["agent_steps"] / row["machine/wall_s"] if row.get("machine/wall_s") else None
    found = run.evaluation
    return [
        agent, run.game, str(run.seed), f"{run.reached:,}", f"{found['mean']:,.1f}" if found else "unfinished",
        str(found["episodes"]) if found else "", _number(row.get("episode_return")), _number(row.get("trace_length")),
        _number(row.get("replay_ratio"), 2), _number(row["machine/wall_s"] / 60 if speed else None), _number(speed, 0),
        (commit.get("commit") or "")[:7] + changed,
    ]  # fmt: skip


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
