"""One run, from a checked config to its last game: built, put back where it was, trained, evaluated."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offpol import cpu
from offpol.agent import Agent
from offpol.assembly import Parts, build_parts, process_group
from offpol.cli.saved_config import relaunchable
from offpol.config import build
from offpol.evaluate import compared, evaluation, in_words
from offpol.guard import explained
from offpol.output import is_terminal, say, tell
from offpol.record import provenance, run_directory
from offpol.record.own_code import own_code
from offpol.record.run_directory import EVALUATION, resume_command
from offpol.record.run_keys import ROUNDING
from offpol.record.run_results import last_row
from offpol.record.run_summary import duration, learning_curve, summary
from offpol.reference_scores import reference_levels
from offpol.run import Run, RunConfig
from offpol.schedule import Schedule

CLAMPED = 0.01  # share of targets outside the critic's support that is worth a word


def train(
    cfg: Mapping[str, Any], directory: Path, *, resumed: Mapping[str, object] | None = None, or_beside: bool = False
) -> float | None:
    """Run a checked config in `directory`; return the mean return of its evaluation, or None without one.

    `resumed` says that a run goes on, and what was changed for that; `or_beside` that a new one may go into a folder
    beside `directory` where that is taken.
    """
    settings: RunConfig = build(cfg["run"], "run")
    cpu.set_up(settings.torch_threads)
    parts = build_parts(cfg, directory)
    spec = parts.actors.spec
    if resumed is None:
        described = provenance.describe(cfg["seed"]) | {"env": spec.name, "own_code": own_code(cfg), "config": cfg}
        described["mu_known"] = getattr(parts.replay, "mu_known", True)
        directory = run_directory.create(directory, relaunchable(cfg), described, or_beside)
    with run_directory.locked(directory):
        run = Run(
            directory, settings, title=f"{spec.name}, seed {cfg['seed']}", levels=reference_levels(spec.name),
            frames_per_agent_step=spec.frames_per_agent_step,
        )  # fmt: skip
        with contextlib.closing(run.logger):
            if resumed is not None:
                restore(run, parts)
                tell_rounding(cfg, directory, resumed)
            add_gauges(run, parts)
            try:
                with run, process_group(parts.agent):
                    if resumed is not None:
                        config = relaunchable(cfg)
                        run_directory.note_resumption(directory, run.agent_steps, resumed, config, own_code(cfg))
                    parts.topology.run(parts.actors, parts.agent, parts.replay, run)
                if run.signal is None:  # a signal during the last checkpoint came too late to be heeded there
                    return finish(cfg, run, parts.agent)
            except Exception as error:
                raise explained(error, directory, run.agent_steps, run.saved_at) from error.__cause__
    say(f"Interrupted and saved at {run.agent_steps:,} agent steps. Go on: {resume_command(directory)}")
    sys.exit(128 + (run.signal or 0))


def restore(run: Run, parts: Parts) -> None:
    """Put everything where the newest whole checkpoint found it, and say what was lost."""
    found = run.checkpoints.load()
    for sentence in found.lost:
        tell(f"offpol: {sentence}.")
    for part, name in ((parts.agent, "agent"), (parts.replay, "replay"), (run, "run")):
        part.load_state_dict(found.state[name])
    run.resumed = {name: part for name, part in found.state.items() if name in ("actor", "topology")}


def tell_rounding(cfg: Mapping[str, Any], directory: Path, changed: Mapping[str, object]) -> None:
    """Say why a run goes on, but not bit for bit, if there is a reason."""
    device = cfg["run"]["device"]
    reasons = [] if device == "cpu" else [f"run.device={device}"]
    reasons += [f"{key}={value}" for key, value in changed.items() if key in ROUNDING - {"run.device"}]
    if reasons := reasons + provenance.rounds_otherwise(run_directory.read_info(directory)):
        tell(f"offpol: It goes on, but not bit for bit as if never stopped: {', '.join(reasons)}.")


def add_gauges(run: Run, parts: Parts) -> None:
    run.gauges["replay_windows"] = lambda: len(parts.replay)
    replay: Any = parts.replay
    if hasattr(replay, "dropped_priorities"):
        run.gauges["dropped_priorities"] = lambda: replay.dropped_priorities
    epsilon = getattr(parts.behavior, "epsilon", None)
    if isinstance(epsilon, Schedule):
        run.gauges["epsilon"] = lambda: epsilon(run.agent_steps)
    if parts.agent.annealing.over_updates:
        run.gauges["gamma"] = lambda: parts.agent.horizon()[0]
        run.gauges["window"] = lambda: parts.agent.horizon()[1]


def finish(cfg: Mapping[str, Any], run: Run, agent: Agent) -> float | None:
    """Evaluate, and print one screen of what came out."""
    facts: dict[str, object] = {
        "agent steps": f"{run.agent_steps:,} ({run.agent_steps * run.frames_per_agent_step:,} frames)",
        "updates": f"{run.updates:,}",
        "wall-clock": f"{duration(run.meter.wall_s)}, {run.agent_steps / run.meter.wall_s:.0f} agent steps/s",
        "training episodes": f"{run.episodes:,}",
    }
    if run.recent_returns:
        mean = sum(run.recent_returns) / len(run.recent_returns)
        facts["return while training"] = f"{mean:.2f} (mean of the last {len(run.recent_returns)} raw full games)"
    clamped = last_row(run.directory / run_directory.METRICS).get("outside_support_share") or 0.0
    if clamped > CLAMPED:
        facts["outside the support"] = f"{clamped:.0%} of the targets were clamped: widen critic.v_min and critic.v_max"
    result = None
    if run.config.eval_episodes:
        if not is_terminal():
            tell(f"offpol: evaluating, {run.config.eval_episodes} games")
        result = evaluation(cfg, agent, run.config.eval_episodes, run.config.eval_epsilon, cfg["seed"])
        run_directory.write_json(run.directory / EVALUATION, {"agent_steps": run.agent_steps, **result})
        learning_curve(run.directory, run.title, run.levels)
        facts["evaluation"] = in_words(result)
        if comparison := compared(result["env"], result["mean"]):
            facts["for comparison"] = comparison
    facts["files"] = f"{run.directory} (learning_curve.png, metrics.jsonl, episodes.csv, tensorboard/)"
    facts["more games"] = f"offpol-eval {shlex.quote(str(run.directory))}"
    say(summary(f"\n{run.title}: done.", facts))
    return result["mean"] if result else None
