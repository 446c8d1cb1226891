"""Run directories as runs leave them, with scores of the test's choosing: no torch, no learning."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from offpol.bench.suite import Job
from offpol.record.bench_plan import Entry, extend_plan

EPISODES = 200
OFF_POLICY = {  # health metrics
    "trace_length_uncut": 4.5, "one_step_share": 0.375, "rho_ess": 0.25,
    "trace_end/window": 0.125, "trace_end/episode": 0.0625,
    "trace_end/exploration": 0.5, "trace_end/policy_change": 0.25, "trace_end/faded": 0.0625,
    **{f"by_age/trace_length_{i}": 5.0 - i for i in (1, 2, 3, 4)},
    **{f"by_age/rho_near_zero_{i}": 0.1 * i for i in (1, 2, 3, 4)},
}  # fmt: skip


def write_plan(folder: Path, suite: str, jobs: Sequence[Job]) -> None:
    """Keep what was asked for, as a bench does."""
    extend_plan(folder, suite, [Entry(job.label, job.cfg, job.game, job.seed) for job in jobs])


def write_run(
    directory: Path, job: Job, score: float | None, *, start: float = 0.0, reached: float = 1.0,
    command: Sequence[str] | None = None, speed: float = 50.0, git: dict[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Write a run that went from `start` to `score` and came as far as the share `reached` of its budget.

    It is evaluated where `score` is given and `reached` is 1.
    """
    cfg = job.cfg
    budget = cfg["run"]["agent_steps"]
    frames = cfg["env"].get("protocol", {}).get("frame_skip", 1)
    directory.mkdir(parents=True)
    saved = {"defaults": ["_self_"], **cfg, "hydra": {"job": {"chdir": False}}}
    (directory / "config.yaml").write_text(yaml.safe_dump(saved, sort_keys=False))
    words = list(job.overrides if command is None else command)
    info = {"command": ["offpol", *words], "seed": cfg["seed"], "git": git or {"commit": "f" * 40, "dirty": False}}
    (directory / "info.json").write_text(json.dumps(info))
    end = score if score is not None else start
    rng = np.random.default_rng(cfg["seed"])
    lines, games = [], ["agent_steps,frames,stream,episode_return,length_agent_steps"]
    for k in range(1, EPISODES + 1):
        share = k / EPISODES
        if share > reached + 1e-9:
            break
        step = round(budget * share)
        value = start + (end - start) * share + rng.normal() * 0.05 * abs(end - start)
        games.append(f"{step},{step * frames},0,{value},{budget // EPISODES}")
        if k % 10 == 0:
            row = {"agent_steps": step, "updates": step // 2, "frames": step * frames, "episode_return": value}
            more = {"machine/wall_s": step / speed, "machine/agent_steps_per_s": speed, "trace_length": 2.5}
            lines.append(json.dumps({**row, **more, **OFF_POLICY, "replay_ratio": 0.5}))
    (directory / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    (directory / "episodes.csv").write_text("\n".join(games) + "\n")
    checkpoint = directory / "checkpoints" / "000003"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").write_text(json.dumps({"about": {"agent_steps": round(budget * reached)}}))
    if score is not None and reached >= 1:
        result = {"agent_steps": budget, "epsilon": 0.001, "over": "q", "mean": float(score), "episodes": 100}
        (directory / "evaluation.json").write_text(json.dumps(result))
    return directory


def inspect(directory: Path, own: float, bias: Sequence[float | None], others: dict[str, float | None]) -> None:
    """Write what offpol-inspect does: distances to Monte Carlo of retrace and others, Q - Monte Carlo by age."""
    distances = {"retrace": own, **others}
    operators = [{"operator": name, "rms_to_monte_carlo": distance} for name, distance in distances.items()]
    ages = [{"q_minus_monte_carlo": gap} for gap in bias]
    (directory / "inspect").mkdir()
    seen = {"operator": "retrace", "window": 5, "operators": operators, "by_age": ages}
    (directory / "inspect" / "inspect.json").write_text(json.dumps(seen))
