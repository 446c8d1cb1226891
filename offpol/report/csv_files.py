"""A report's numbers for other programs: rows of runs, of aggregates, of curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from offpol.reference_scores import table_hash
from offpol.report.comparison import Comparison
from offpol.report.published import protocol_of
from offpol.report.sections import Section

Rows = tuple[list[str], list[list[object]]]  # header and rows


def run_rows(comparisons: Sequence[Comparison]) -> Rows:
    """Return one row per run, with its scores and the facts of its protocol."""
    facts = list(dict.fromkeys(fact for c in comparisons for fact in c.protocol))
    header = [
        "agent", "game", "seed", "statistic", "score", "normalised", "scale", "finished", "directory", "identity",
        *facts,
    ]  # fmt: skip
    rows: list[list[object]] = []
    for c in comparisons:
        for labelled in c.runs:
            run, score = labelled.run, labelled.run.score(c.statistic)
            normal = c.normalise(run.game, np.array([score]))[0] if c.scale and score is not None else ""
            rows.append([
                labelled.agent, run.game, run.seed, c.statistic, "" if score is None else score, normal,
                c.scale.name if c.scale else "raw", run.finished, run.directory, run.identity,
                *(protocol_of(run).get(fact, "") for fact in facts),
            ])  # fmt: skip
    return header, rows


def aggregate_rows(sections: Sequence[Section]) -> Rows:
    """Return one row per section, entrant and aggregate."""
    rows: list[list[object]] = []
    for section in sections:
        title = section.comparison.title
        for name, found in section.estimates.items():
            for aggregate, (value, interval) in found.items():
                rows.append([title, name, aggregate, value, *(interval or ("", "")), *_scale(section.comparison)])
        for better, than, (value, interval) in section.improvements:
            rows.append([title, better, f"P(better than {than})", value, *(interval or ("", "")), "raw", ""])
    return ["comparison", "agent", "measure", "value", "low_95", "high_95", "scale", "human_random_sha256"], rows


def _scale(comparison: Comparison) -> tuple[str, str]:
    return comparison.scale.name if comparison.scale else "raw", table_hash() if comparison.of_humans else ""


def curve_rows(comparisons: Sequence[Comparison]) -> Rows:
    """Return one row per run and point of its curve."""
    rows: list[list[object]] = []
    for c in [c for c in comparisons if c.statistic == "final_evaluation"]:
        for labelled in c.runs:
            run = labelled.run
            for step, value in zip(*run.curve, strict=True):
                if not np.isnan(value):
                    frames = int(step) * run.frames_per_agent_step
                    rows.append([labelled.agent, run.game, run.seed, int(step), frames, value])
    return ["agent", "game", "seed", "agent_steps", "frames", "training_return"], rows
