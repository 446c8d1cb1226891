# ruff: noqa: E501 - whole sentences are compared
"""The command line: what it says, what it leaves behind, how it ends."""

import errno
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from command import TINY, Outcome, call, run_folder

from offpol import main
from offpol.cli import evaluate_command
from offpol.contracts.policies import LOGGED_BY_OFFPOL, PREFIXES_OF_OFFPOL
from offpol.errors import ConfigError
from offpol.record import run_directory

Command = Callable[..., Outcome]


@pytest.fixture
def offpol(tmp_path, monkeypatch, capfd) -> Command:
    """The command, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: call(main.main, arguments, monkeypatch, capfd)


MISTAKES = {
    "a key": (["agent.gama=1"], "There is no key 'agent.gama': did you mean 'agent.gamma'?"),
    "a nested key": (["agent.tarjet.rate=1"], "There is no key 'agent.tarjet.rate': did you mean 'agent.target.rate'?"),
    "a deep key": (["agent.optimizer.learning_rat=1"], "did you mean 'agent.optimizer.learning_rate'?"),
    "a key of another option": (["trace=one_step", "trace.lambda_=1"], "There is no key 'trace.lambda_': trace has"),
    "a group": (["trac=retrace"], "There is no key 'trac': did you mean 'trace'?"),
    "a nested group": (["env/preste=sticky"], "There is no key 'env/preste': did you mean 'env/preset'?"),
    "a group with a dot": (["env.preset=sticky"], "env/preset is a group, so write env/preset=..."),
    "an option": (["trace=retrac"], "There is no 'retrac' in group 'trace': did you mean 'retrace'?"),
    "an option of one's own": (["trace=mine"], "It has: c_trace, gae, importance_sampling, n_step, one_step, peng, puffer, "
        "q_lambda, rbis, retrace, tree_backup, vtrace, watkins. One of your own is found by --config-dir FOLDER."),
    "a preset": (["env/preset=stiky"], "There is no 'stiky' in group 'env/preset': did you mean 'sticky'?"),
    "an experiment": (["experiment=cartpol"], "There is no 'cartpol' in group 'experiment': did you mean 'cartpole'?"),
    "a text for a number": (["agent.gamma=abc"], "agent.gamma is 'abc', but must be a number."),
    "a float for a count": (["run.agent_steps=1e5"], "run.agent_steps is 100000.0, but must be a whole number: write 100000."),
    "nothing": (["agent.gamma="], "agent.gamma is '', but must be a number."),
    "a word": (["behavior.over=policyy"], "behavior.over is 'policyy', but must be one of q, policy: did you mean 'policy'?"),
    "a seed": (["seed=-1"], "seed is -1, but must not be negative."),
    "an added key": (["+agent.more=1"], "There is no key 'agent.more'"),
    "an added section": (["+tracee=1"], "There is no key 'tracee': did you mean 'trace'?"),
    "a plus for what is there": (["+agent.gamma=0.9"], "agent.gamma is there already: leave out the plus."),
    "a plus for a seed": (["+seed=3"], "seed is there already: leave out the plus."),
    "a key of the env's maker": (["env=gymnasium", "env.make_kwargs.a=1"], "env.make_kwargs takes keys that no yaml lists: add them with a plus, as in +env.make_kwargs.a=VALUE."),
    "keys of the env's maker": (["task=cartpole", "env.make_kwargs={a: 1}"], "as in +env.make_kwargs.NAME=VALUE."),
    "an added word": (["+zzz=1"], "There is no key 'zzz': a config has env, behavior, replay, network,"),
    "a removed section": (["~trace"], "The config has no 'trace', which every run needs: leave out ~trace, or"),
    "a short name": (["agent.lr=1"], "There is no key 'agent.lr': did you mean 'agent.optimizer.learning_rate'?"),
    "a key of another section": (["agent.replay_ratio=1"], "did you mean 'run.replay_ratio'?"),
    "a key that this env has not": (["task=cartpole", "env.game=Pong"], "There is no key 'env.game': env has id, make_kwargs"),
    "n": (["trace=n_step", "trace.n=3"], "There is no key 'trace.n': n, the transitions of a window, is agent.window."),
    "two tasks": (["experiment=cartpole", "task=chain"], "experiment=cartpole is the task cartpole already: leave it out"),
    "a key of several sections": (["epsilon=1"], "did you mean 'behavior.epsilon' or 'replay.epsilon' or"),
    "a key of Hydra": (["hydra.rundir=x"], "There is no key 'hydra.rundir': did you mean 'hydra.run.dir'?"),
    "an option for a key": (["n_step=3"], "There is no key 'n_step', but an option of that name: write trace=n_step."),
    "no option": (["trace=null"], "'trace=null' names no option of a group, which has: c_trace, gae,"),
    "a number for an option": (["trace=5"], "'trace=5' names no option of a group"),
    "two options": (["trace=[retrace,n_step]"], "a run takes one. For a sweep: offpol -m trace=retrace,n_step."),
    "an added option": (["+trace=n_step"], "trace is chosen already: write trace=n_step to choose another one."),
    "an option alone": (["cartpole"], "Cannot read 'cartpole': write experiment=cartpole."),
    "an option with a slash": (["experiment=cartpole/x"], "There is no 'cartpole/x' in group 'experiment': did you mean 'cartpole'?"),
    "a suite": (["suite=s6"], "suites are what offpol-bench runs"),
    "spaces": (["agent.gamma", "=", "0.9"], "Cannot read 'agent.gamma': write agent.gamma=VALUE, without spaces."),
    "a missing value": (["seed"], "Cannot read 'seed': write key=value"),
    "a missing key": (["=5"], "Cannot read '=5': write key=value"),
    "a broken list": (["network.widths=[1,2"], "Cannot read 'network.widths=[1,2'"),
    "a special character": (["hydra.run.dir=mein Ordner/ü"], "as in hydra.run.dir='\"mein Ordner/ü\"'"),
    "a flag": (["--multirunn", "seed=0,1"], "There is no flag '--multirunn': did you mean '--multirun'?"),
    "a flag for a key": (["--gamma", "0.9"], "There is no flag '--gamma': values are written key=value"),
    "a flag's choice": (["--cfg", "jobb"], "invalid choice: 'jobb'"),
    "a package": (["--cfg", "job", "--package", "agnt"], "There is no key 'agnt': did you mean 'agent'?"),
    "half a question": (["--package", "agent"], "add --cfg job"),
    "help on nothing": (["--help", "trace=retrac"], "did you mean 'retrace'?"),
    "no run to go on with": (["resume="], "resume= needs the folder of a run"),
    "a sweep that only shows": (["-m", "seed=0,1", "--cfg", "job"], "leave one out"),
    "a flag at the end": (["trace=retrace", "-m", "seed=0,x"], "seed is 'x'"),
    "a sweep without -m": (["seed=0,1"], "a sweep over several values needs the flag -m"),
    "one option of a sweep": (["-m", "trace=retrace,n_stepp", "seed=0,1"], "did you mean 'n_step'?"),
    "one value of a sweep": (["-m", "seed=0,1", "agent.gamma=0.9,abc"], "agent.gamma is 'abc'"),
    "an unknown reference": (["agent.gamma=${nothing}"], "nothing"),
    "a target": (["trace._target_=offpol.trace.retrace.Retrac"], "has no class Retrac: did you mean 'Retrace'?"),
    "a config folder": (["--config-dir", "nowhere"], "/nowhere: name the folder of the yaml"),
    "a run to resume": (["resume=nowhere"], "nowhere is no run: it has no config.yaml."),
    "two runs to resume": (["resume=one", "resume=two"], "One run goes on at a time"),
    "a flag for a run to resume": (["resume=nowhere", "--cfg", "job"], "without flags: resume=RUN_DIR cannot go with --cfg."),
    "resuming": (["resumee=run"], "There is no key 'resumee': did you mean 'resume=RUN_DIR'?"),
    "resuming as a word": (["resume", "run"], "Cannot read 'resume': write resume=RUN_DIR."),
    "an option for a section": (["agent=fast"], "agent is 'fast', but is a section: set a value in it, as in agent.KEY=VALUE."),
    "a long name": ([f"resume={'x' * 300}"], "xxx... is too long for the name of a file or folder: give a shorter one."),
    "stored data of no name": ([*TINY, "replay=mixed", "replay.offline="], "replay.offline= is no run"),
    "a folder of sweeps": (["-m", "hydra.sweep.dir=/proc/x", "seed=0,1"], "name another folder with hydra.sweep.dir=..."),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_sentence(offpol: Command, tmp_path: Path, mistake: str) -> None:
    arguments, sentence = MISTAKES[mistake]
    outcome = offpol(*arguments)
    assert outcome.code == 2
    assert sentence in outcome.err
    assert outcome.err.startswith("offpol: ")
    assert outcome.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


REFUSED = {
    "game": (["env.game=Brakeout"], "did you mean 'Breakout'?"),
    "continuous actions": (["env=gymnasium", "env.id=Pendulum-v1"], "Box"),
    "width": ([*TINY, "network.heads.policy_hidden=0"], "network.heads: policy_hidden must be at least 1, but is 0."),
    "protocol": (["env.game=ALE/Pong-v5"], "did you mean 'Pong'?"),
    "module": (["env=gymnasium", "env.id=no_module:Foo-v0"], "No module named 'no_module'"),
    "support": ([*TINY, "critic.v_min=40"], "critic: v_min must be below v_max"),
    "probability": (
        [*TINY, "behavior.epsilon.start=2"],
        "behavior: epsilon must stay between 0 and 1, but goes from 2.0",
    ),
    "late start": ([*TINY, "run.learning_starts_agent_steps=400"], "would never learn"),
    "batch": ([*TINY, "replay.capacity=60", "agent.batch_size=100"], "raise replay.capacity or lower the batch"),
    "early start": ([*TINY, "run.learning_starts_agent_steps=5"], "start no sooner"),
    "offline": (
        [*TINY, "replay=mixed", "replay.offline=gone"],
        "/gone is no run: give the folder of one, or",
    ),
    "combination": (["env=chain", "network=nature", "run.num_envs=1"], "network"),
    "device": ([*TINY, "run.device=cuda:77"], "run.device is 'cuda:77', which this machine"),
    "size": ([*TINY, "replay.capacity=99999999999999"], "replay does not fit into memory: Unable to allocate"),
    "device size": (
        [*TINY, "replay=on_device", "replay.capacity=99999999999999"],
        "replay does not fit into memory: 3,200,000",
    ),
    "length": ([*TINY, "run.agent_steps=-5"], "run: agent_steps must be at least 1, but is -5."),
    "count": ([*TINY, "run.num_envs=0"], "run: num_envs must be at least 1, but is 0."),
}


@pytest.mark.parametrize("refused", REFUSED)
def test_what_cannot_work_is_refused_with_its_reason_and_leaves_nothing(
    offpol: Command, tmp_path: Path, refused: str
) -> None:
    arguments, sentence = REFUSED[refused]
    outcome = offpol(*arguments)
    assert outcome.code == 2
    assert sentence in outcome.err
    assert "Traceback" not in outcome.err + outcome.out
    assert not list(tmp_path.iterdir())


def test_a_broken_file_is_told_with_its_line(offpol: Command, tmp_path: Path) -> None:
    (tmp_path / "conf" / "trace").mkdir(parents=True)
    (tmp_path / "conf" / "trace" / "broken.yaml").write_text("_target_: x.Y\nlist: [1,\n")
    outcome = offpol("--config-dir", "conf", "trace=broken")
    assert outcome.code == 2
    assert outcome.err.startswith("offpol: ")
    assert "broken.yaml, line 3, is not yaml" in outcome.err


@pytest.mark.parametrize(("group", "content", "file"), [
    ("experiment", "defaults: [override /trace: n_step]", "experiment/mine.yaml"),
    ("experiment", "defaults: [rainbow]\nagent: {gamma: 0.9}", "The yaml of experiment=mine (or of its defaults list)"),
    ("task", "defaults: [override /env: chain]", "task/mine.yaml"),
    ("task", "agent: {gamma: 0.9}", "The yaml of task=mine (or of its defaults list)"),
])  # fmt: skip
def test_an_overlay_without_its_first_line_is_told(offpol: Command, tmp_path: Path, group, content, file) -> None:
    (tmp_path / "conf" / group).mkdir(parents=True)
    (tmp_path / "conf" / group / "mine.yaml").write_text(content)
    outcome = offpol("--config-dir", "conf", f"{group}=mine", "--cfg", "job")
    assert outcome.code == 2
    assert outcome.err.startswith(f"offpol: {file} needs a first line, # @package _global_: ")
    assert outcome.err.count("\n") == 1


def test_flags_may_stand_anywhere(offpol: Command) -> None:
    first, last = offpol("--cfg", "job", "agent.gamma=0.5"), offpol("agent.gamma=0.5", "--cfg", "job")
    assert first.code == last.code == 0
    assert first.out == last.out
    assert "gamma: 0.5" in last.out


def test_an_env_is_made_with_keys_of_its_own(offpol: Command) -> None:
    """As the sentences say of what misses a plus."""
    for added in ("+env.make_kwargs.max_episode_steps=100", "+env.make_kwargs={max_episode_steps: 100}"):
        outcome = offpol("task=cartpole", added, "--cfg", "job", "--package", "env.make_kwargs")
        assert (outcome.code, "max_episode_steps: 100" in outcome.out) == (0, True)


def test_the_version_is_its_own(offpol: Command) -> None:
    outcome = offpol("--version")
    assert outcome.code == 0
    assert re.fullmatch(r"offpol \d+\.\d+\S*, Hydra 1\.3\S*\n", outcome.out)


def test_a_help_of_hydras_own_is_shown_too(offpol: Command) -> None:
    outcome = offpol("--help", "hydra/help=default")
    assert (outcome.code, "behavior: boltzmann, epsilon_greedy, epsilon_policy\n" in outcome.out) == (0, True)
    assert outcome.out.startswith("offpol is powered by Hydra.")


def test_help_completion_and_mistakes_do_not_wait_for_torch(tmp_path: Path) -> None:
    script = """
import sys
from offpol.main import main
for arguments in (["--help"], ["--cfg", "job"], ["--info", "defaults-tree"], ["agent.gama=1"], ["trace=retrac"],
                  ["agent.gamma=abc"], ["-m", "seed=0,x"], ["resume=nowhere"], ["hydra.run.dir=/proc/x"]):
    sys.argv = ["offpol", *arguments]
    try:
        main()
    except SystemExit:
        pass
    assert "torch" not in sys.modules, arguments
# What only the parts know waits for torch, but for nothing that is slower.
for argument in ("env.game=Brakeout", "critic.v_min=40", "behavior.epsilon.start=2", "agent.window=0"):
    sys.argv = ["offpol", argument]
    try:
        main()
    except SystemExit:
        pass
    assert "tensordict" not in sys.modules, argument
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for word in ("offpol-eval RUN_DIR", "resume=RUN_DIR", "trace: ", "retrace", "behavior    how actors explore"):
        assert word in done.stdout
    assert done.stderr.count("\n") == 10


def test_a_run_leaves_what_a_person_wants_to_see(offpol: Command, tmp_path: Path) -> None:
    outcome = offpol(*TINY, "seed=3")
    assert outcome.code == 0, outcome.err
    folder = run_folder(tmp_path / "runs")
    assert folder.parent == tmp_path / "runs" / "chain" / "default"
    assert folder.name.endswith("-seed3")
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml", "info.json", "metrics.jsonl", "episodes.csv", "checkpoints", "tensorboard",
        "learning_curve.png", "evaluation.json",
    }  # fmt: skip
    info = json.loads((folder / "info.json").read_text())
    assert (info["seed"], info["env"]) == (3, "Chain-8")
    assert info["versions"]["torch"]
    assert info["threads"]["torch"] == 1
    assert info["command"][1:] == [*TINY, "seed=3"]
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert saved["agent"]["batch_size"] == 4
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["agent_steps"] // 50 for row in rows] == list(range(1, 9))
    health = {"trace_length", "trace_cut_share", "rho_clipped_share", "rho_ess", "log_mu_minus_log_pi", "epsilon",
              "sample_age_updates", "outside_support_share", "policy_entropy", "replay_ratio", "loss",
              "trace_length_uncut", "by_age/updates_1", "by_age/rho_ess_4"}  # fmt: skip
    assert health <= set(rows[-1])
    of_policy = {"temperature", "policy_target_entropy", "saturated_weights", "weights_effective_share"}
    others = {name for name in rows[-1] if not name.startswith(PREFIXES_OF_OFFPOL)}
    assert others - of_policy <= LOGGED_BY_OFFPOL  # no policy of one's own may log these
    assert sum(number for name, number in rows[-1].items() if name.startswith("trace_end/")) == pytest.approx(1)
    shares = sum(number for name, number in rows[-1].items() if name.startswith("machine/share_"))
    assert 0.5 < shares <= 1.01
    result = json.loads((folder / "evaluation.json").read_text())
    assert result["episodes"] == len(result["returns"]) == 3
    for words in ("agent steps", "evaluation", str(folder.relative_to(tmp_path)), "offpol-eval"):
        assert words in outcome.out


def test_a_run_that_nobody_listens_to_ends_well() -> None:
    command = [sys.executable, "-c", "from offpol.output import say; say('done'); say('really')"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (0, "")


def test_a_part_of_a_recipe_can_be_swapped(offpol: Command, tmp_path: Path) -> None:
    """What the recipe sets for the part that it has is left out, said, and not in what is saved."""
    swapped = ("experiment=rainbow", "replay=uniform", "network.heads.noisy=0", "run.agent_steps=200", "agent.window=3")
    tiny = [word for word in TINY if not word.startswith(("run.agent_steps", "env="))]
    outcome = offpol(*swapped, "env=chain", *tiny, "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    assert "left out, as it is for other parts than those chosen: replay.alpha, replay.beta." in outcome.err
    assert "alpha" not in (tmp_path / "run" / "config.yaml").read_text()
    refused = offpol(*swapped, "env=chain", *tiny, "replay.alpha=0.5", "hydra.run.dir=other")
    assert "There is no key 'replay.alpha'" in refused.err


@pytest.mark.parametrize("closed", [2, None])
def test_progress_that_nobody_listens_to_costs_nothing(closed: int | None) -> None:
    """As for `offpol 2>&1 | head -1`, and for a program that is started without standard error."""
    code = "from offpol.output import tell; from offpol.progress import Progress; p = Progress(10, 0)\n"
    code += (
        "for i in range(1, 11): p.update(i); p.show({}); p.say('lost rows')\np.close(); tell('over'); print('whole')"
    )
    command = (
        [sys.executable, "-c", code]
        if closed is None
        else ["sh", "-c", 'exec "$@" 2>&-', "", sys.executable, "-c", code]
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stderr.close()
        said = process.stdout.read()
    assert (process.returncode, said) == (0, "whole\n")


def test_empty_folders_of_the_users_are_left_alone(offpol: Command, tmp_path: Path) -> None:
    (tmp_path / "mine" / "empty").mkdir(parents=True)
    refused = (*TINY, "run.device=cuda:77")  # found out when Hydra has made the run's folder
    assert offpol(*refused, "hydra.run.dir=mine/empty").code == 2
    assert offpol(*refused, "hydra.run.dir=mine/empty/new/er").code == 2
    assert [path.name for path in (tmp_path / "mine").rglob("*")] == ["empty"]
    assert offpol(*refused, "hydra.run.dir=other/new").code == 2
    assert not (tmp_path / "other").exists()


def test_runs_are_never_overwritten(offpol: Command, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("")
    outcome = offpol(*TINY, "hydra.run.dir=mine")
    assert outcome.code == 2
    assert "mine is not empty, and runs are never overwritten" in outcome.err
    assert "resume" not in outcome.err  # there is no run in it
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["precious"]
    (tmp_path / "mine" / "config.yaml").write_text("")
    said = offpol(*TINY, "hydra.run.dir=mine").err
    assert "The run in it has no checkpoint to go on from: remove it, unless it is still going." in said
    assert "resume" not in said
    (tmp_path / "mine" / "checkpoints" / "000001").mkdir(parents=True)
    assert "or go on with the run in it by offpol resume=mine" in offpol(*TINY, "hydra.run.dir=mine").err


def test_sweeps_are_never_overwritten(offpol: Command, tmp_path: Path) -> None:
    (tmp_path / "mine" / "0").mkdir(parents=True)
    (tmp_path / "mine" / "multirun.yaml").write_text("earlier")
    outcome = offpol("-m", *TINY, "seed=0,1", "hydra.sweep.dir=mine")
    assert outcome.code == 2
    assert "mine is not empty, and runs are never overwritten: name another folder with hydra.sweep.dir=" in outcome.err
    assert (tmp_path / "mine" / "multirun.yaml").read_text() == "earlier"
    (tmp_path / "mine" / "0").rmdir()  # what a sweep of which no run began leaves is no sweep
    run_directory.require_new(tmp_path / "mine", sweep=True)


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", None])
@pytest.mark.parametrize("name", ["info.json", "evaluation.json"])
def test_a_damaged_file_of_a_run_is_told(offpol: Command, tmp_path: Path, name: str, damage: str | None) -> None:
    assert offpol(*TINY, "run.agent_steps=100", "run.eval_episodes=1", "hydra.run.dir=mine").code == 0
    if damage is None:
        (tmp_path / "mine" / name).unlink()
    else:
        (tmp_path / "mine" / name).write_text(damage)
    outcome = offpol("resume=mine", "run.agent_steps=100" if name == "evaluation.json" else "run.agent_steps=140")
    if damage is None and name == "evaluation.json":  # it is made again
        assert outcome.code == 0
    else:
        assert outcome.code == 2
        assert f"{name} is missing or damaged" in outcome.err


def test_runs_that_start_in_one_second_get_folders_of_their_own(tmp_path: Path) -> None:
    first = run_directory.create(tmp_path / "run", "a", {}, or_beside=True)
    second = run_directory.create(tmp_path / "run", "b", {}, or_beside=True)
    third = run_directory.create(tmp_path / "run", "c", {}, or_beside=True)
    assert [folder.name for folder in (first, second, third)] == ["run", "run-2", "run-3"]
    assert [(folder / "config.yaml").read_text() for folder in (first, second, third)] == ["a", "b", "c"]
    with pytest.raises(ConfigError, match="another run's folder"):
        run_directory.create(tmp_path / "run", "d", {}, or_beside=False)


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_built(offpol: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = offpol("hydra.run.dir=file/run")
    assert outcome.code == 2
    assert "file/run cannot be written" in outcome.err


def test_a_run_that_cannot_begin_on_a_full_disk_leaves_nothing(offpol: Command, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_directory, "write_json", full)
    outcome = offpol(*TINY, "hydra.run.dir=run")
    assert outcome.code == 2
    assert outcome.err.startswith("offpol: run cannot be written (No space left on device): make room, or name")
    assert outcome.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_saved_config_starts_the_same_run_by_itself(offpol: Command, tmp_path: Path) -> None:
    assert offpol(*TINY, "hydra.run.dir=first").code == 0
    outcome = offpol("--config-path", "first", "--config-name", "config", "hydra.run.dir=second")
    assert outcome.code == 0, outcome.err
    for name in ("config.yaml", "episodes.csv"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    outcome = offpol("--config-path=first", "--config-name=config", "agent.gama=1")
    assert "did you mean 'agent.gamma'?" in outcome.err


def test_a_sweep_runs_every_combination_and_survives_a_failure(offpol: Command, tmp_path: Path) -> None:
    outcome = offpol("-m", *TINY, "run.eval_episodes=0", "run.device=cuda:77,cpu", "seed=0,1")
    assert outcome.code == 1
    assert outcome.err.count("offpol: run.device is 'cuda:77', which this machine or this torch does not have") == 2
    assert "Traceback" not in outcome.err
    (sweep,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert sorted(path.parent.name for path in sweep.rglob("metrics.jsonl")) == [
        "2-run.device=cpu,seed=0", "3-run.device=cpu,seed=1"
    ]  # fmt: skip
    alone = offpol(*TINY, "run.eval_episodes=0", "seed=1", "hydra.run.dir=alone")
    assert alone.code == 0
    theirs, ours = (sweep / "3-run.device=cpu,seed=1" / "episodes.csv", tmp_path / "alone" / "episodes.csv")
    assert theirs.read_bytes() == ours.read_bytes()  # what ran before in the process does not matter


@pytest.mark.parametrize(("swept", "said"), [
    ("critic.v_max=20,-20", "critic: v_min must be below v_max"), ("trace=retrace,gae", "GAE corrects nothing"),
])  # fmt: skip
def test_a_sweep_tells_a_mistake_of_any_job_before_the_first(offpol: Command, tmp_path: Path, swept, said) -> None:
    outcome = offpol("-m", *TINY, swept)
    assert outcome.code == 2
    assert said in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_without_failures_ends_well(offpol: Command) -> None:
    outcome = offpol("-m", *TINY, "run.eval_episodes=0", "seed=0,1")
    assert (outcome.code, outcome.err.count("Traceback")) == (0, 0)


def test_a_part_from_outside_plugs_in_by_config(offpol: Command, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "my_traces.py").write_text(
        "from dataclasses import dataclass\n"
        "from offpol.types import TraceInputs, TraceTargets\n\n\n"
        "@dataclass(frozen=True)\n"
        "class Rewards:\n"
        "    scale: float\n\n"
        "    def __call__(self, inputs: TraceInputs) -> TraceTargets:\n"
        "        return TraceTargets(inputs.reward * self.scale, inputs.reward, inputs.reward * 0)\n"
    )
    (tmp_path / "my_conf" / "trace").mkdir(parents=True)
    (tmp_path / "my_conf" / "trace" / "rewards.yaml").write_text("_target_: my_traces.Rewards\nscale: 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    outcome = offpol("--config-dir", "my_conf", *TINY, "trace=rewards", "hydra.run.dir=out")
    assert outcome.code == 0, outcome.err
    last = json.loads((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["trace_length"] == 1.0
    file = tmp_path / "my_traces.py"
    code = {"class": "my_traces.Rewards", "file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert json.loads((tmp_path / "out" / "info.json").read_text())["own_code"] == {"trace": code}
    assert "The code of" not in offpol("resume=out", "run.agent_steps=450").err
    file.write_text(file.read_text() + "# changed\n")
    said = f"The code of trace ({file}) is not what this run was made with"
    assert offpol("resume=out", "run.agent_steps=500").err.count(said) == 1
    assert "trace.scale is 'x'" in offpol("--config-dir", "my_conf", "trace=rewards", "trace.scale=x").err


def test_offpol_eval_plays_with_the_newest_checkpoint(offpol: Command, tmp_path: Path, monkeypatch, capfd) -> None:
    assert offpol(*TINY, "run.eval_episodes=0", "hydra.run.dir=run").code == 0

    def offpol_eval(*arguments: str) -> Outcome:
        return call(evaluate_command.main, arguments, monkeypatch, capfd)

    outcome = offpol_eval("run", "--episodes", "5", "--epsilon", "0.5", "--seed", "9", "--gif", "game.gif")
    assert outcome.code == 0, outcome.err
    (written,) = (tmp_path / "run").glob("evaluation*.json")
    result = json.loads(written.read_text())
    assert (result["episodes"], result["epsilon"], result["seed"]) == (5, 0.5, 9)
    assert result["agent_steps"] >= 400
    assert written.name == f"evaluation-{result['agent_steps']}-steps-5-games-over-q-epsilon-0.5-seed-9.json"
    assert (tmp_path / "game.gif").read_bytes().startswith(b"GIF")
    assert f"{result['mean']:.2f} [" in outcome.out
    assert (
        offpol_eval("run", "--episodes", "5", "--epsilon", "0.5", "--seed", "9").out.splitlines()[0]
        == (outcome.out.splitlines()[0])
    )
    by_policy = offpol_eval("run", "--episodes", "5", "--over", "policy")
    assert by_policy.code == 0, by_policy.err
    (written,) = (tmp_path / "run").glob("evaluation-*-5-games-over-policy-epsilon-0-*.json")
    assert json.loads(written.read_text())["over"] == "policy"
    (tmp_path / "folder.gif").mkdir()
    for arguments in (
        ["nowhere"], ["run", "--episodes", "0"], ["run", "--gif", "x.avi"], ["run", "--gif", "folder.gif"],
        ["run", "--over", "value"],
        ["run", "--gif", "/proc/x.gif"],
    ):  # fmt: skip
        refused = offpol_eval(*arguments)
        assert refused.code == 2
        assert refused.err.startswith("offpol-eval: ")
        assert refused.err.count("\n") == 1

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_directory, "write_json", full)
    unwritten = offpol_eval("run", "--episodes", "5", "--epsilon", "0.5", "--seed", "9")
    assert unwritten.code == 1
    assert unwritten.err.startswith("offpol-eval: a file cannot be written (No space left on device): make room")
    assert unwritten.out.splitlines()[0] == outcome.out.splitlines()[0]  # what was played is not lost


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"a: [1,\n", "config.yaml, line 2, is not yaml"), (b"- 1\n", "it holds a list"), (b"\xc2a: 1", "can't decode")],
)
def test_a_config_that_was_spoilt_is_told(offpol: Command, tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_bytes(content)
    outcome = offpol("resume=run")
    assert outcome.code == 2
    assert outcome.err.startswith("offpol: run/config.yaml is not as a run saved it (")
    assert outcome.err.endswith("): put back what the run wrote.\n")
    assert sentence in outcome.err
    assert outcome.err.count("\n") == 1


def test_commands_work_from_any_folder_as_programs(tmp_path: Path) -> None:
    """The installed script, once: everything else here calls its entry point."""
    script = Path(sys.executable).with_name("offpol")
    if not script.exists():
        pytest.skip("offpol is not installed beside this python")
    done = subprocess.run(
        [script, "trace=retrac"], cwd=tmp_path, capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 2
    assert "did you mean 'retrace'?" in done.stderr
