"""What a report says about a comparison, block by block."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from offpol.reference_scores import table_hash
from offpol.report.aggregates import Estimate, estimates, probability_of_improvement
from offpol.report.comparison import Comparison, Entrant
from offpol.report.curves import AXES, curves_figure, games_figure
from offpol.report.figures import SEED, Improvement, Panels, aggregates_figure, improvement_figure, profile_figure
from offpol.report.inspected import inspected_table
from offpol.report.offpolicy import OFF_POLICY, off_policy_figure, off_policy_table
from offpol.report.pages import Block, Figure, Fold, Heading, Text, Warn
from offpol.report.published import STATISTICS, protocol_of
from offpol.report.tables import aggregate_table, game_table, interval, run_table, score

MAX_PUBLISHED_LINES = 3  # in a figure of curves: those nearest to the best agent
MAX_PAIRS = 24  # in a figure
AGGREGATED_FIGURE = "Aggregates with 95% stratified bootstrap intervals; diamonds: one score per game, no interval."
PROFILE = "Performance profiles: the share of runs that score above τ, with 95% bands (published agents in grey)."
IMPROVEMENT = "Averaged over games, ties counting half, with 95% stratified bootstrap intervals; raw scores suffice."
MORE_PAIRS = " The first {} of {} pairs, those of the best agent before others; aggregates.csv has all."
CURVES = (
    "Training returns (with exploration, raw full games) over four measures of cost: means over games that ended in "
    "a window of a tenth of the budget, bands are 95% bootstrap intervals. Of the finished runs, or before one is, of "
    "all as far as all have come. Grey: final scores of published agents."
)
GAMES = (
    "Training returns over agent steps: every seed thin, the mean of the finished ones thick (before one is, of all, "
    "as far as all have come), and each seed's {} as a dot; lines: published agents nearest to ours, the best constant "
    "action, human and random play where they lie within reach."
)
OWN_SCALE = (
    "These games have no human reference. In each, 0 is random play and 1 the mean of whichever agent here is best in "
    "it: the numbers rank the agents of this report, and change with who takes part. The reference is taken as it "
    "stands: intervals leave out its own uncertainty. The probability of improvement needs no reference."
)


class Section:
    """Everything about one comparison, computed once."""

    def __init__(self, comparison: Comparison, number: int) -> None:
        self.comparison, self.stem = comparison, f"{number}-"
        whole = [entrant for entrant in comparison.entrants if comparison.comparable(entrant) is not None]
        self.estimates: dict[str, dict[str, Estimate]] = {}
        if comparison.scale:
            for entrant in whole:
                self.estimates[entrant.name] = estimates(comparison.comparable(entrant) or {}, SEED)
        self.with_runs = [entrant for entrant in whole if entrant.of_runs]
        self.improvements = self._improvements()

    def _improvements(self) -> list[Improvement]:
        """Compare our agents with each other, then with the nearest published agents whose runs are known."""
        mine = [entrant for entrant in self.with_runs if entrant.kind == "agent"]
        if self.estimates:
            mine.sort(key=lambda entrant: -self.estimates[entrant.name]["IQM"].value)
        theirs = [entrant for entrant in self.neighbours() if entrant.of_runs]
        pairs = itertools.product(mine[:1], [*mine[1:], *theirs])
        others = [*itertools.combinations(mine[1:], 2), *itertools.product(mine[1:], theirs)]
        return [
            Improvement(a.name, b.name, probability_of_improvement(a.scores, b.scores, SEED))
            for a, b in [*pairs, *others]
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
        told: list[Block] = [Heading(2, c.title), Text(self.headline(), lead=True)]
        told += [Warn(text) for text in self.notes()]
        if self.estimates:
            told += [Heading(3, "Aggregates"), *([] if c.of_humans else [Text(OWN_SCALE)])]
            told.append(aggregate_table(c, self.estimates))
            told.append(self._panels("aggregates", aggregates_figure(c, self.estimates), AGGREGATED_FIGURE, 400))
        if self.estimates and (profiled := self._profiled()):
            told += [Heading(3, "Performance profiles")]
            told += [Figure(self.stem + "profiles", profile_figure(c, profiled), PROFILE)]
        if self.improvements:
            drawn = improvement_figure(c, self.improvements[:MAX_PAIRS])
            count = len(self.improvements)
            caption = IMPROVEMENT + MORE_PAIRS.format(MAX_PAIRS, count) * (count > MAX_PAIRS)
            told += [Heading(3, "Probability of improvement"), Figure(self.stem + "improvement", drawn, caption)]
        told += [*self._curves(), Heading(3, "Games"), game_table(c), *self._games(), *self._off_policy()]
        told += [Heading(3, "How it was measured"), *self._protocol(), run_table(c)]
        return told

    def headline(self) -> str:
        """Say the result in a sentence or two."""
        c = self.comparison
        scored = [
            f"**{e.name}** {interval(self.estimates[e.name]['IQM'])}" for e in c.agents if e.name in self.estimates
        ]
        size = f"{_count(len(c.games), 'game')}, {_seeds(c.seeds)}; {STATISTICS[c.statistic]}"
        if scored and c.scale:
            known = any(self.estimates[e.name]["IQM"].interval for e in c.agents if e.name in self.estimates)
            bracket = "95% intervals" if known else "a game has one run, so no interval"
            return f"IQM of the {c.scale.name}: {'; '.join(scored)} ({bracket}). {size}."
        if c.of_humans:
            return f"{size}; no agent has a score in every game, so there is no aggregate."
        means = [f"**{e.name}** {score(e, c.games[0])}" for e in c.agents] if len(c.games) == 1 else []
        return "; ".join([*means, f"{size}; raw scores"]) + "."

    def notes(self) -> list[str]:
        """Say what must not be overlooked: games and seeds that are missing, and who cannot be shown beside."""
        c, told = self.comparison, []
        for entrant in c.agents:
            lacking = []
            for game in c.games:
                done = {run.seed for run in c.of(entrant.name, game) if run.score(c.statistic) is not None}
                seeds = [seed for seed in c.asked_seeds(entrant.name, game) if seed not in done]
                if seeds:
                    lacking.append(f"{game} ({_seeds(seeds)})")
                elif not done:
                    lacking.append(f"{game} (not asked for)")
            if lacking:
                told.append(f"**{entrant.name}** lacks {'; '.join(lacking)}.")
        return [*told, *c.warnings]

    def _profiled(self) -> list[Entrant]:
        near = {entrant.name for entrant in self.neighbours()}
        return [entrant for entrant in self.with_runs if entrant.kind == "agent" or entrant.name in near]

    def _panels(self, name: str, drawn: Panels, caption: str, panel_px: int) -> Figure:
        return Figure(self.stem + name, drawn.whole, caption, drawn.alone, panel_px)

    def _curves(self) -> list[Block]:
        c = self.comparison
        if not (c.scale or len(c.games) == 1) or not any(run.run.reached for run in c.runs):
            return []
        drawn = curves_figure(c, {e.name: self.estimates[e.name]["IQM"].value for e in self.neighbours()})
        return [Heading(3, "Learning"), self._panels("curves", drawn, CURVES, 400)] if drawn else []

    def _games(self) -> list[Block]:
        c = self.comparison
        panel_px = 230 if len(c.games) > 6 else 300
        caption = GAMES.format("final evaluation" if c.statistic == "final_evaluation" else "score")
        told: list[Block] = [self._panels("games", games_figure(c, self.neighbours()), caption, panel_px)]
        if not c.scale and len(c.games) > 1:  # no curves of all games together show these
            for kind in ("minutes", "updates"):  # frames are agent steps times a constant
                drawn = games_figure(c, [], kind)
                told.append(self._panels(f"games-{kind}", drawn, f"The same over {AXES[kind]}.", panel_px))
        return told

    def _off_policy(self) -> list[Block]:
        table, drawn = off_policy_table(self.comparison), off_policy_figure(self.comparison)
        if not table.rows or self.comparison.statistic != "final_evaluation":
            return []
        told: list[Block] = [self._panels("off-policy", drawn, OFF_POLICY, 300)] if drawn else []
        if (inspected := inspected_table(self.comparison)).rows:
            told += [Heading(3, "Returns against what really came"), inspected]
        return [Heading(3, "How off-policy it was"), table, *told]

    def _protocol(self) -> list[Block]:
        c = self.comparison
        protocols = [protocol_of(one.run) for one in c.runs]
        values = {fact: sorted({str(each.get(fact)) for each in protocols}) for fact in c.protocol}
        lines = [f"{fact}: {' or '.join(found)}" for fact, found in values.items()]
        if c.of_humans:
            lines.append(f"human/random table: offpol/data/atari_human_random.csv, sha256 {table_hash()}")
        elif c.scale:
            goals = ", ".join(f"{game} {one.random:g} to {one.goal:g}" for game, one in c.scale.references.items())
            lines.append(f"0 and 1 of the scale: {goals}")
        told: list[Block] = [Fold("Protocol of the runs", lines)]
        if c.remarks:
            told.append(Fold("Published agents: sources, and what is not known of their protocols", c.remarks))
        return told


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) != 1)} {', '.join(map(str, seeds))}"
