"""Comparisons made of runs: those of one protocol and budget, with the published agents that may stand beside them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from offpol.record.own_code import made_with
from offpol.record.run_labels import Labelled, named
from offpol.record.run_results import RunResult
from offpol.reference_scores import Reference, baselines, human_random
from offpol.report.comparison import Comparison, Entrant, Scale, human_scale
from offpol.report.published import STATISTICS, changes, match, protocol_of, published, training_epsilon


def compare(runs: Sequence[Labelled], games: Sequence[str] = (), with_published: bool = True) -> list[Comparison]:
    """Sort runs into comparisons: one for each protocol and budget, and for each statistic that has scores.

    Args:
        runs: all that were found.
        games: compare in these only; empty: in every game that one of the runs plays.
        with_published: let published agents stand beside, where protocols match.
    """
    groups: dict[str, list[Labelled]] = defaultdict(list)
    for labelled in runs:
        if not games or labelled.run.game in games:
            groups[_group(labelled.run)].append(labelled)
    made = []
    for members in map(_distinct, map(named, groups.values())):
        for statistic in ("final_evaluation", "training_1m_frames"):
            comparison = _comparison(members, statistic, games)
            if with_published and comparison.of_humans:
                _add_published(comparison)
            first = statistic == "final_evaluation"
            if first or any(entrant.kind == "published" for entrant in comparison.entrants):
                made.append(comparison)
    _tell_apart(made)
    return made


def _distinct(members: list[Labelled]) -> list[Labelled]:
    """Rename agents of ours that are called as published agents or baselines are."""
    taken = {one.name for one in published()} | {row.name for row in baselines()}
    return [replace(one, agent=f"{one.agent} (ours)") if one.agent in taken else one for one in members]


def _tell_apart(comparisons: Sequence[Comparison]) -> None:
    """Give comparisons of one title the facts that set them apart."""
    same: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in comparisons:
        same[comparison.title].append(comparison)
    for alike in same.values():
        facts = dict.fromkeys(fact for comparison in alike for fact in comparison.protocol)
        differing = [fact for fact in facts if len({str(one.protocol.get(fact)) for one in alike}) > 1]
        for comparison in alike if len(alike) > 1 else ():
            said = ", ".join(f"{fact}={comparison.protocol.get(fact)}" for fact in differing)
            comparison.title += f" ({said})"


def _group(run: RunResult) -> str:
    """Say what has to be equal for scores to stand in one table."""
    protocol = {k: v for k, v in protocol_of(run).items() if not k.startswith("evaluation_") and k != "name"}
    return json.dumps([run.cfg["env"]["_target_"], protocol], sort_keys=True)


def _comparison(members: list[Labelled], statistic: str, games: Sequence[str]) -> Comparison:
    protocol = protocol_of(members[0].run)
    asked = {pair for one in members if one.asked for pair in one.asked.runs}
    played = {labelled.run.game for labelled in members} | {game for game, _ in asked}
    seeds = {labelled.run.seed for labelled in members} | {seed for _, seed in asked}
    name = members[0].run.cfg["env"]["_target_"].split(".")[-1]
    preset = f", preset {protocol['name']}" if "name" in protocol else ""
    changed = changes(members[0].run)
    preset += f" with {', '.join(changed)}" if changed else ""
    while_training = "" if statistic == "final_evaluation" else ": while training"
    comparison = Comparison(
        title=f"{name}{preset}, {protocol['budget_agent_steps']:,} agent steps{while_training}",
        statistic=statistic,
        protocol=protocol,
        games=list(games) or sorted(played),
        seeds=sorted(seeds),
        runs=members,
    )
    for agent in dict.fromkeys(labelled.agent for labelled in members):
        comparison.entrants.append(_agent(comparison, agent))
    _note_what_differs(comparison)
    if statistic == "final_evaluation" and not changed:
        _add_baselines(comparison)
    strangers = sorted(set(comparison.games) - set(human_random()))
    if strangers and len(strangers) < len(comparison.games):
        comparison.warnings.append(
            f"There is no human score of {', '.join(strangers)}, so scores stay raw and there is no aggregate: leave "
            f"{'it' if len(strangers) == 1 else 'them'} out with --games."
        )
    comparison.scale = human_scale() if set(comparison.games) <= set(human_random()) else _own_scale(comparison)
    return comparison


def _own_scale(comparison: Comparison) -> Scale | None:
    """Return a scale for games that have no human reference: 1 is the mean of the agent that is best in the game.

    None where that compares nothing: one game or agent, no measured random play, or a game that nobody has learned
    (where not every run of the best agent is above who does not learn), so that its scale would be made of noise.
    """
    agents = [entrant for entrant in comparison.agents if not entrant.missing(comparison.games)]
    idle = [entrant for entrant in comparison.entrants if entrant.kind == "baseline"]
    random = next((entrant for entrant in idle if entrant.name == "random"), None)
    if min(len(agents), len(comparison.games)) < 2 or random is None or random.missing(comparison.games):
        return None
    references, unlearned = {}, []
    for game in comparison.games:
        best = max((entrant.scores[game] for entrant in agents), key=np.mean)
        references[game] = Reference(float(random.scores[game].mean()), float(best.mean()))
        if best.min() <= max(float(entrant.scores[game].mean()) for entrant in idle if game in entrant.scores):
            unlearned.append(game)
    if unlearned:
        comparison.warnings.append(
            f"There is no aggregate, for no agent has learned {', '.join(unlearned)}: even of the best one's runs not "
            "all are above random play and the best constant action."
        )
        return None
    return Scale("score relative to the best agent", "best agent", references)


def _agent(comparison: Comparison, agent: str) -> Entrant:
    scores = {}
    for game in comparison.games:
        found = [run.score(comparison.statistic) for run in comparison.of(agent, game)]
        if any(score is not None for score in found):
            scores[game] = np.array([score for score in found if score is not None])
    return Entrant(agent, "agent", scores)


def _note_what_differs(comparison: Comparison) -> None:
    """Warn of agents measured in other ways, and of names that join several configs."""
    facts: dict[str, set[str]] = defaultdict(set)
    identities: dict[str, set[str]] = defaultdict(set)
    for labelled in comparison.runs:
        identities[labelled.agent].add(labelled.run.agent)
        for fact, value in protocol_of(labelled.run).items():
            facts[fact].add(str(value))
    for fact, values in facts.items():
        if len(values) > 1:
            comparison.warnings.append(f"The runs differ in {fact}: {', '.join(sorted(values))}.")
    for agent, found in identities.items():
        if len(found) > 1:
            comparison.warnings.append(f"{agent} joins {len(found)} different configs: {', '.join(sorted(found))}.")
    for one in comparison.runs:
        evaluation = one.run.evaluation
        if evaluation and one.run.score("final_evaluation") is None:
            comparison.warnings.append(f"{one.agent}, {one.run.game} seed {one.run.seed}: the score is no number.")
        if reruns := len(one.reruns):
            comparison.warnings.append(
                f"{one.agent}, {one.run.game} seed {one.run.seed}: {reruns} finished rerun{'s' * (reruns > 1)} of the "
                "same config left out, the first one counts."
            )
    _note_versions(comparison)


def _note_versions(comparison: Comparison) -> None:
    """Warn of agents whose runs were made with several versions of offpol, or of code of one's own."""
    commits: dict[str, set[str]] = defaultdict(set)
    codes: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in comparison.runs:
        commits[one.agent].add(str((one.run.info.get("git") or {}).get("commit"))[:7])
        for part, written, digest in (code for run in (one.run, *one.reruns) for code in made_with(run.info)):
            codes[one.agent, f"{part} ({written})"].add(digest)
    for agent, of in commits.items():
        if len(of) > 1:
            comparison.warnings.append(f"The runs of {agent} are of {len(of)} commits: {', '.join(sorted(of))}.")
    for (agent, part), digests in codes.items():
        if len(digests) > 1:
            comparison.warnings.append(
                f"The code of {part} was edited between or during runs of {agent}, which are not of one agent: "
                "report the folders of each version under a name of their own (NAME=PATH)."
            )


def _add_baselines(comparison: Comparison) -> None:
    """Add the agents that do not learn, where they were measured under this protocol."""
    name = comparison.protocol.get("name", "minatar")
    for kind in ("random", "best constant action"):
        found = {row.game: row for row in baselines() if row.protocol == name and row.name == kind}
        scores = {game: np.array([found[game].mean]) for game in comparison.games if game in found}
        if scores:
            comparison.entrants.append(Entrant(kind, "baseline", scores, of_runs=False))


def _add_published(comparison: Comparison) -> None:
    """Add every published agent whose protocol matches; say of the others at this budget why not."""
    elsewhere, shown = set(), set()
    for theirs in published():
        if not any(game in theirs.scores for game in comparison.games):
            continue
        found = match(comparison.protocol, theirs)
        if theirs.statistic != comparison.statistic:
            found.differs.insert(0, f"published are {STATISTICS[theirs.statistic]}")
        elif theirs.training_epsilon is not None:
            ours = {training_epsilon(one.run.cfg) for one in comparison.runs}
            if ours != {theirs.training_epsilon}:
                said = ", ".join(sorted("other" if e is None else f"{e:g}" for e in ours))
                found.differs.append(f"epsilon at the end of training: {theirs.training_epsilon:g}, here {said}")
        if not found.differs:
            unstated = f"not stated: {', '.join(found.unstated)}" if found.unstated else ""
            remark = "; ".join(filter(None, [*found.minor, unstated]))
            scores = {game: scores for game, scores in theirs.scores.items() if game in comparison.games}
            marks = " †" * bool(unstated) + " ‡" * bool(found.minor)
            comparison.entrants.append(Entrant(theirs.name, "published", scores, theirs.of_runs, marks))
            shown.add(theirs.name)
            if found.minor:
                comparison.warnings.append(f"{theirs.name} ‡ was measured otherwise: {'; '.join(found.minor)}.")
            said = "; ".join(filter(None, [theirs.source, theirs.note, remark]))
            comparison.remarks.append(f"{theirs.name}: {said}.")
        elif any("agent steps" in reason for reason in found.differs):
            elsewhere.add(theirs.name)
        else:
            comparison.warnings.append(f"{theirs.name} is not shown beside these runs: {'; '.join(found.differs)}.")
    if elsewhere := elsewhere - shown:
        comparison.remarks.append(f"Published at other budgets, and not shown: {', '.join(sorted(elsewhere))}.")
