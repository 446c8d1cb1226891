"""What README, docs/ and benchmarks/ have one run, the least of each, and what is not run and why."""

import shlex

from test_docs import COMMANDS, PROGRAMS, ROOT

from offpol.bench import command as bench
from offpol.bench.suite import NO_SUITE, expand, load_suite
from offpol.cli import command_line

LEAST = (
    "run.agent_steps=160", "run.learning_starts_agent_steps=120", "run.replay_ratio=0.25", "run.eval_episodes=1",
    "run.log_every_agent_steps=40", "run.checkpoint_every_agent_steps=40", "run.torch_threads=1", "agent.batch_size=4",
)  # fmt: skip
SMALL = ("replay.capacity=2000",)  # not where a suite varies it
SHORT_GAMES = ("env.protocol.max_frames_per_episode=400",)  # Atari's
LONGER = "run.agent_steps=200"
STUDY = ("seed=0", *LEAST)
OPTIONS = {  # of the other programs and of scripts, the least that they can be asked for
    "offpol-eval": "--episodes 1",
    "offpol-inspect": "--batches 2 --steps 16",
    "offpol-tabular": "--window 2 --iterations 2",
    "offpol-replay": "", "offpol-report": "", "offpol-minari": "",
    "benchmarks/baselines.py": "minatar --games MinAtar-breakout --table baselines.csv",
    "benchmarks/beyond_memory.py": "--capacity 2000 --windows 2 --draws 20",
    "benchmarks/cartpole.py": "--seeds 1 --agent-steps 1200",
    "benchmarks/checkpoint.py": "--rows 2000 --new 400",
    "benchmarks/end_to_end.py": "--rounds 1 --agent-steps 2500 --threads 1",
    "benchmarks/floor.py": "--rounds 1 --updates 2 run.learning_starts_agent_steps=120",
    "benchmarks/gpu.py": "--only same",
    "benchmarks/publish.py": "",
    "benchmarks/recipes.py": "--seeds 1 --agent-steps 1200 --agents rlpd",
    "benchmarks/replay.py": "--capacity 2000 --rounds 1",
    "benchmarks/replay_peers.py": "--capacity 2000 --rounds 1",
    "benchmarks/replay_share.py": "--updates 2",
    "benchmarks/scaling.py": "--rounds 1 --largest 100000",
    "benchmarks/several_runs.py": "--rounds 1 --agent-steps 3000",
    "benchmarks/stacked_seeds.py": "--rounds 1 --tasks cartpole --seeds 2",
    "benchmarks/study.py core": shlex.join(["only=retrace,fresh", *STUDY]),
    "benchmarks/study.py frozen": shlex.join(["only=retrace,epsilon-greedy", *STUDY]),
    "benchmarks/study.py full": shlex.join(["only=retrace,fresh,epsilon-policy", "env.game=breakout", *STUDY]),
    "benchmarks/study.py lambda": shlex.join(["only=retrace .7,fresh,epsilon-greedy", "env.game=breakout", *STUDY]),
    "benchmarks/study_chain.py": "",
    "benchmarks/study_report.py": "", "benchmarks/study_scores.py": "",
    "benchmarks/topologies.py threads": "--rounds 1 --agent-steps 2000 --torch-threads 1",
    "benchmarks/topologies.py ray": "--rounds 1 --agent-steps 2000 --workers 1",
    "benchmarks/trace.py": "--rounds 1 --calls 1", "benchmarks/training_means.py": "",
}  # fmt: skip
NOT_OURS = {  # programs of others, by their first words
    "python3 -m venv": "the environment of a fresh machine is made by `bash .ci/run`, from README's own line",
    "pip": "needs a network",
    "python -m pytest": "runs this very test",
    "ruff": "part of `bash .ci/run`", "mypy": "part of `bash .ci/run`", "bash .ci/run": "runs the tests",
    "tensorboard": "serves until it is stopped",
}  # fmt: skip
NOT_HERE = {  # by their first words
    "offpol-bench suite=atari100k hydra/launcher=submitit_slurm": "needs Slurm; tests/bench runs submitit's local",
    "ray job submit": "needs a Ray cluster",
    "offpol topology=ray_workers topology.address=HOST:6379": "needs a Ray cluster of several machines",
    "torchrun": "needs two GPUs; tests/test_data_parallel.py does it on CPUs",
    "offpol resume=": "is no command, only its first words",
    "python benchmarks/floor.py ...": "leaves the overrides to the reader",
    "PYTHONPATH=. offpol --config-dir halfway/conf": "tests/test_extending.py runs it, with that page's own files",
}
NEEDS = {  # what is imported, by a word of the command
    "topology=ray_workers": "ray", "ray": "ray", "offpol-minari": "minari", "task=minatar": "minatar",
    "benchmarks/cartpole.py": "stable_baselines3", "benchmarks/end_to_end.py": "stable_baselines3 tianshou cv2",
    "benchmarks/replay_peers.py": "stable_baselines3 tianshou cpprb", "benchmarks/baselines.py": "minatar",
    "suite=minatar": "minatar", "benchmarks/several_runs.py": "minatar", "benchmarks/study.py": "minatar",
    "benchmarks/study_report.py": "minatar", "benchmarks/study_scores.py": "minatar", "runs/bench/minatar": "minatar",
}  # fmt: skip
MEANT = {"ID": "mine/offpol-v0", "RUNS": "runs/bench/mine", "DIR": "report", "/shared/s6": "runs/bench/s6"}
BEFORE = {  # commands that go on from what another one wrote, and which
    "offpol-replay a_run --import rows.npz": "offpol-replay a_run --export rows.npz",
    "offpol-minari import ID": "offpol-minari export a_run ID",
}
MADE_BY = {  # folders that reports are made of, and how a reader of the docs came by them
    "runs/sweeps": "offpol -m task=chain trace=retrace,n_step seed=0,1",
    "runs/bench/mine": "offpol-bench task=minatar out=runs/bench/mine",
    "runs/bench/s6": "offpol-bench suite=s6 env.game=Krull && offpol-bench suite=s6 env.game=Boxing",
    "runs/bench/minatar": "offpol-bench suite=minatar",
    "runs/published/minatar": "python benchmarks/publish.py runs/bench/minatar runs/published/minatar",
    "runs/study/core": "python benchmarks/study.py core",
    "runs/study/frozen": "python benchmarks/study.py frozen",
    "runs/study/full": "python benchmarks/study.py full",
    "runs/study/lambda": "python benchmarks/study.py lambda",
}
KEPT = ("runs/published/atari100k", "runs/published/s6_gpu")  # in the clone
READERS = (
    "offpol-report", "benchmarks/publish.py", "benchmarks/study_report.py", "benchmarks/study_scores.py",
    "benchmarks/training_means.py",
)  # fmt: skip


def commands() -> dict[str, list[str]]:
    """List what the pages show and the scripts that none shows, by text: the words, from a program's name on."""
    shown = [part.strip() for _, line in COMMANDS for part in line.split("&&") if part.strip()]
    words = {text: [word.removeprefix(".venv/bin/") for word in shlex.split(text)] for text in dict.fromkeys(shown)}
    scripts = {word for each in words.values() for word in each}
    for script in sorted(f"benchmarks/{path.name}" for path in (ROOT / "benchmarks").glob("*.py")):
        if script not in scripts:
            words[f"python {script}"] = ["python", script]
    return words


def program(words: list[str]) -> str | None:
    """Return the program of offpol's, or the script, that a command calls; None where it is another's."""
    return next((word for word in words if word in PROGRAMS or word.startswith("benchmarks/")), None)


def excuse(words: list[str]) -> str | None:
    """Return why a command is not run on any machine."""
    for start, why in {**NOT_HERE, **NOT_OURS}.items():
        first = shlex.split(start)
        if words[: len(first)] == first:
            return why
    return None


def reads(words: list[str]) -> list[str]:
    """List the folders of runs that a command reads."""
    if program(words) not in READERS:
        return []
    given = words[:-1] if "benchmarks/publish.py" in words else words  # whose last word is where it writes
    paths = [word.partition("=")[2] or word for word in given]
    return [path for path in paths if path in MADE_BY or path in KEPT]


def least(words: list[str]) -> list[str]:
    """Put the least in place of what a command asks for."""
    words = [MEANT.get(word, word) for word in words]
    name = program(words)
    given = words[words.index(name) + 1 :]
    if name == "offpol":
        return replaced(words, _of_a_run(given))
    if name == "offpol-bench":
        return replaced(words, _of_a_bench(given))
    options = OPTIONS.get(f"{name} {given[0]}" if given else name, OPTIONS.get(name))
    return replaced(words, shlex.split(options))


def replaced(words: list[str], more: list[str]) -> list[str]:
    """Add words; an assignment takes the place of an earlier one to the same key."""
    keys = {word.partition("=")[0] for word in more if "=" in word}
    return [*(word for word in words if "=" not in word or word.partition("=")[0] not in keys), *more]


def _of_a_run(given: list[str]) -> list[str]:
    if {"--help", "--cfg"} & set(given):
        return []
    if any(word.startswith("resume=") for word in given):
        return [LONGER] if any(word.startswith("run.agent_steps=") for word in given) else []
    cfg = command_line.plain(next(command_line.compositions(command_line.parse(given))))
    return [*LEAST, *SMALL, *(SHORT_GAMES if "protocol" in cfg["env"] else ())]


def _of_a_bench(given: list[str]) -> list[str]:
    """Of a big suite one game and one seed are enough."""
    request = bench.parse(given)
    job = expand(load_suite(request.suite) if request.suite else NO_SUITE, request.overrides)[0]
    game = [word for word in job.overrides if word.startswith("env.game=")][-1:]
    return [*LEAST, *SMALL, *(SHORT_GAMES if "protocol" in job.cfg["env"] else ()), "seed=0", *game]
