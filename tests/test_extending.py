"""docs/extending.md does what it says: its package is written out from the text, and its command is run."""

import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from command import Outcome, call, run_folder

import offpol as offpol_package
from offpol import assembly
from offpol.config import conf_dir
from offpol.errors import ConfigError
from offpol.main import main
from offpol.record import checkpoint
from offpol.scan import q_targets
from offpol.types import TraceInputs, TraceTargets

PARTS = """
import torch
from offpol.actions import greedy_probs
from offpol.env.chain import Chain
from offpol.policy_base import PolicyBase

class Forgot:  # to divide by the number of actions
    def __init__(self, share: float) -> None:
        self.share = share
    def probs(self, q, pi, agent_steps):
        return greedy_probs(q) * (1 - self.share) + self.share

class Divided(Forgot):
    def probs(self, q, pi, agent_steps):
        return greedy_probs(q) * (1 - self.share) + self.share / q.shape[-1]

class Ahead:  # answers for the window's last observation too
    def __call__(self, inputs):
        from offpol.types import TraceTargets
        return TraceTargets(inputs.v, inputs.v, inputs.v)

class Secret:  # looks at mu and does not say so
    def __call__(self, inputs):
        from offpol.scan import q_targets, ratio
        return q_targets(inputs, ratio(inputs, 1.0), inputs.v)

class Loose:
    def __init__(self, share) -> None:
        self.share = share

class Kept(Chain):  # one array for all observations
    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.kept = self.reset()
    def step(self, action):
        step = super().step(action)
        self.kept[...] = step.obs
        return step._replace(obs=self.kept)

class Twice(PolicyBase):
    def probs(self, q, policy_logits):
        return 2 * greedy_probs(q)
"""
CHAIN = "length: 8\nslip: 0.1\ninterior_reward: 0.1\ngoal_reward: 1.0\ntime_limit_agent_steps: 9\n"
DOCS = conf_dir().parent / "docs"
TEXT = (DOCS / "extending.md").read_text()
(OWN_AGENT,) = re.findall(r"```python\n(.*?)```", (DOCS / "faq.md").read_text(), re.S)
NOTEBOOK, PLAYED, DRAWN = re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), re.S)
SMALLER = ("network.widths=[8]", "run.agent_steps=400", "run.learning_starts_agent_steps=100", "run.eval_episodes=2")


def test_the_package_in_the_text_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    files = re.findall(r"<!-- file (\S+) -->\n```\w+\n(.*?)```", TEXT, re.S)
    assert len(files) == 3
    assert sum(len(content.splitlines()) for _, content in files) <= 40
    for name, content in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (command,) = re.findall(r"<!-- command -->\n```bash\n(.*?)\n```", TEXT, re.S)
    path, program, *arguments = command.split()
    assert (path, program) == ("PYTHONPATH=.", "offpol")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    outcome = call(main, (*arguments, *SMALLER), monkeypatch, capfd)
    assert outcome.code == 0, outcome.err
    saved = (run_folder(tmp_path) / "config.yaml").read_text()
    assert "_target_: halfway.halfway.Halfway" in saved


@pytest.fixture
def offpol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture):
    """Run `offpol task=chain` with a part of PARTS."""
    (tmp_path / "mine_parts.py").write_text(PARTS)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.chdir(tmp_path)

    def run(seam: str, name: str, values: str, *arguments: str) -> Outcome:
        folder = tmp_path / "conf" / seam
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mine.yaml").write_text(f"_target_: mine_parts.{name}\n{values}")
        tasks = () if any(word.startswith("task=") for word in arguments) else ("task=chain",)
        job = ("--config-dir", "conf", *tasks, f"{seam}=mine", *SMALLER, "hydra.run.dir=run", *arguments)
        return call(main, job, monkeypatch, capfd)

    return run


def test_a_task_sets_what_a_part_takes_and_no_more(offpol, tmp_path: Path) -> None:
    """Every task has a schedule of epsilon for the behavior; this one takes none."""
    outcome = offpol("behavior", "Divided", "share: 0.2\n")
    assert outcome.code == 0, outcome.err
    assert "left out, as it is for other parts than those chosen: behavior.epsilon." in outcome.err
    assert "behavior:\n  _target_: mine_parts.Divided\n  share: 0.2\n" in (tmp_path / "run" / "config.yaml").read_text()
    assert (
        "There is no key 'behavior.epsilon'" in offpol("behavior", "Divided", "share: 0.2\n", "behavior.epsilon=1").err
    )


def test_what_nothing_takes_is_refused_wherever_it_stands(offpol, tmp_path: Path) -> None:
    """In a part's own yaml, though other parts have such a key; and in a task, where it is a slip of the pen."""
    assert "There is no key 'behavior.epsilon'" in offpol("behavior", "Divided", "share: 0.2\nepsilon: 1\n").err
    (tmp_path / "conf" / "task").mkdir()
    slip = "# @package _global_\ndefaults: [chain]\nbehavior: {epsilom: 1}\n"
    (tmp_path / "conf" / "task" / "slip.yaml").write_text(slip)
    assert "There is no key 'behavior.epsilom'" in offpol("behavior", "Divided", "share: 0.2\n", "task=slip").err


BASE = """# @package _global_
defaults: [override /trace: n_step, override /network: nature]
recipe: {batch_size: 48}
agent: {batch_size: "${recipe.batch_size}", window: 3, target: {rate: 0.5}, policy_coefficient: "${.target.rate}"}
behavior: {epsilon: 0.05}
run: {num_envs: 8, agent_steps: 4_000}
"""
MINE = """# @package _global_
defaults: [base, override /network: mlp]
network: {widths: [64, 64], heads: {hidden: "${task.hidden}"}}
task: {hidden: 16}
agent: {optimizer: {learning_rate: 1e-4, epsilon: 1e-5}}
replay: {capacity: "${agent.window}000"}
behavior: {epsilon: {start: 1, end: 0.1, over_agent_steps: 3000}}
"""


def test_what_a_task_replaces_of_an_experiment_is_told(tmp_path: Path, monkeypatch, capfd) -> None:
    """Not what comes out as wanted (by a recipe, or as the task has it too), nor what the command line says."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    for name, content in (("base", BASE), ("mine", MINE)):
        (tmp_path / "conf" / "experiment" / f"{name}.yaml").write_text(content)

    def replaced(*arguments: str) -> list[str]:
        ends_it = "run.device=cuda:77"
        outcome = call(main, ("--config-dir", "conf", "task=chain", *arguments, ends_it), monkeypatch, capfd)
        return re.findall(r"on top of the experiment and replaces its (.*?): to have your own, give it", outcome.err)

    rest = (
        "agent.target.rate, agent.optimizer.learning_rate, behavior.epsilon.over_agent_steps, network.widths, "
        "network.heads.hidden, replay.capacity"
    )
    assert replaced("experiment=mine") == [rest]
    assert replaced("experiment=base") == ["network, agent.target.rate, behavior.epsilon"]
    assert replaced("experiment=base", "network=mlp", "agent.target.rate=1", "behavior.epsilon=1") == []
    assert replaced() == []
    assert replaced("-m", "experiment=mine", "seed=0,1") == [rest]


@pytest.mark.parametrize(("words", "said"), [
    ("experiment=dqn replay=on_device", "replay=uniform: replay.alpha=0 draws as that does."),
    ("experiment=puffer replay=on_device", "replay=recent: nothing on a device draws as recent does."),
    ("experiment=dqn replay=on_device replay.alpha=0", ""), ("experiment=rainbow replay=on_device", ""),
    ("replay=on_device", ""), ("experiment=dqn", ""), ("experiment=dqn replay=prioritized", ""),
])  # fmt: skip
def test_a_replay_on_a_device_that_is_another_one_is_told(words: str, said: str, tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = call(main, (*words.split(), "task=chain", "run.device=cuda:77"), monkeypatch, capfd)
    assert said in outcome.err
    assert ("draws by priorities" in outcome.err) == bool(said)


UNMADE = """
import torch
from offpol.policy_base import PolicyBase

class Mine(PolicyBase):
    def __init__(self, double: bool) -> None:
        self.bias = torch.nn.Parameter(torch.zeros(1))
"""


@pytest.mark.parametrize(("seam", "name", "values", "said"), [
    ("behavior", "Forgot", "share: 0.2\n", "behavior: Forgot.probs gives ["),
    ("policy", "Twice", "", "Twice.probs gives ["),
    ("trace", "Ahead", "", "Ahead gives returns of shape (2, 6) for windows whose rewards [B, n] have shape (2, 5)"),
    ("trace", "Secret", "", "Secret returns something else where the logged probability is another one"),
    ("env", "Kept", CHAIN, "env: Kept.step writes into observations that it returned before"),
    ("behavior", "Loose", "share: 0.2\n", "behavior.share cannot be checked: annotate that parameter"),
])  # fmt: skip
def test_a_part_that_is_none_is_refused(offpol, seam: str, name: str, values: str, said: str) -> None:
    """What is drawn from no distribution would not be what is logged, and no number would show it."""
    outcome = offpol(seam, name, values)
    assert outcome.code in (1, 2)
    assert said in outcome.err
    assert "Traceback" not in outcome.err


def test_a_part_that_is_no_python_is_told_by_file_and_line(tmp_path: Path, monkeypatch, capfd) -> None:
    (tmp_path / "broken_part.py").write_text("class Mine:\n    def __init__(self)\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    outcome = call(main, ("task=chain", "trace._target_=broken_part.Mine"), monkeypatch, capfd)
    assert outcome.code == 2
    assert "broken_part.py, line 2, is not Python: expected ':'." in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_package_that_does_not_load_and_an_unmade_module_are_told(tmp_path: Path, monkeypatch, capfd) -> None:
    (tmp_path / "broken_package").mkdir()
    (tmp_path / "broken_package" / "__init__.py").write_text("nothing_of_this_name\n")
    (tmp_path / "broken_package" / "part.py").write_text("")
    (tmp_path / "unmade_part.py").write_text(UNMADE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for override, sentence in (
        ("trace._target_=broken_package.part.Mine", "broken_package.part cannot be found (NameError: name 'nothing_of"),
        ("policy._target_=unmade_part.Mine", "policy: Mine.__init__ must call super().__init__() first"),
    ):
        outcome = call(main, ("task=chain", "policy=greedy", *SMALLER, override), monkeypatch, capfd)
        assert outcome.code == 2
        assert sentence in outcome.err
        assert outcome.err.count("\n") == 1


def test_an_agent_of_ones_own_learns_and_goes_on_as_the_faq_says(tmp_path: Path, monkeypatch, capfd) -> None:
    (tmp_path / "mine.py").write_text(OWN_AGENT)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.chdir(tmp_path)
    job = ("task=chain", *SMALLER, "agent._target_=mine.Mine", "run.eval_episodes=0", "hydra.run.dir=run")
    for words in ((*job, "run.agent_steps=200"), ("resume=run", "run.agent_steps=300")):
        outcome = call(main, words, monkeypatch, capfd)
        assert outcome.code == 0, outcome.err
    learned = checkpoint.load_newest(Path("run/checkpoints")).state["agent"]
    updates, optimizer = learned["updates"], learned["optimizer"]
    assert updates >= 50
    assert all("square_avg" in kept and kept["step"] == updates for kept in optimizer["state"].values())
    assert {group["lr"] for group in optimizer["param_groups"]} == {1e-3 / (1 + updates / 1000)}
    sys.modules.pop("mine")  # other tests have a module of that name too


def test_an_optimizer_of_ones_own_too_leaves_out_a_step_that_is_not_finite(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mine.py").write_text(OWN_AGENT)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    cfg = offpol_package.compose("task=chain", *SMALLER)
    cfg["agent"]["_target_"] = "mine.Mine"
    parts = assembly.build_parts(cfg, tmp_path / "run")
    parameters = [parameter.clone() for parameter in parts.agent.parameters]
    for loss, finite in ((math.nan, False), (1.0, True)):
        total = sum(parameter.sum() for parameter in parts.agent.parameters) * loss
        _, answer = parts.agent._step(total, torch.ones(1), torch.zeros(()), False)
        assert bool(answer) == finite
        same = [torch.equal(*pair) for pair in zip(parameters, parts.agent.parameters, strict=True)]
        assert any(same) != finite
        assert all(same) != finite
        assert bool(parts.agent.optimizer.state) == finite
    sys.modules.pop("mine")


def test_the_notebook_of_the_docs_runs_and_its_agent_plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(NOTEBOOK.replace('"trace=n_step"', '"trace=n_step", "run.agent_steps=1200", "run.eval_episodes=2"'), found)
    assert -2 <= found["score"] <= 1
    assert found["rows"][-1]["agent_steps"] >= 1200
    q, pi = found["agent"].values(torch.from_numpy(found["env"].reset()))
    assert q.shape == pi.shape == (1, 2)
    played: dict = {}
    exec(PLAYED.replace("RUN_DIR", "runs/mine"), played)
    assert played["over"]
    assert -6 <= played["score"] <= 1.5
    drawn: dict = {}
    exec(DRAWN.replace("RUN_DIR", "runs/mine"), drawn)
    assert drawn["returns"].shape == (256, found["cfg"]["agent"]["window"])
    assert drawn["rho"][drawn["batch"].valid].isfinite().all()


def test_a_replay_that_is_loaded_draws_what_the_run_would_have(tmp_path: Path, monkeypatch) -> None:
    cfg, built, build_replay = offpol_package.compose("task=chain", *SMALLER), [], assembly.build_replay
    monkeypatch.setattr(assembly, "build_replay", lambda *given: built.append(build_replay(*given)) or built[0])
    offpol_package.train(cfg, tmp_path / "run")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    replay = offpol_package.load_replay(tmp_path / "run")
    for _ in range(3):
        ours, theirs = replay.sample(16), built[0].sample(16)
        assert torch.equal(ours.index, theirs.index)
        assert torch.equal(ours.obs, theirs.obs)
        assert torch.equal(ours.replay_weight, theirs.replay_weight)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="nowhere"):
        offpol_package.load_replay(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="is 'gpu', which this machine or this torch does not have"):
        offpol_package.load_replay(tmp_path / "run", device="gpu")


def test_a_class_of_a_notebooks_cell_is_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine:
        def __init__(self, lambda_: float) -> None:
            self.lambda_ = lambda_

        def __call__(self, inputs: TraceInputs) -> TraceTargets:
            return q_targets(inputs, torch.full_like(inputs.v[:, :-1], self.lambda_), inputs.v)

    monkeypatch.setattr(sys.modules["__main__"], "Mine", Mine, raising=False)
    cfg = offpol_package.compose("task=chain", *SMALLER)
    cfg["trace"] = {"_target_": "__main__.Mine", "lambda_": "x"}
    with pytest.raises(ConfigError, match=r"trace\.lambda_ is 'x', but must be a number"):
        offpol_package.train(cfg, tmp_path / "run")
    with pytest.raises(ConfigError, match="-m is a flag of the command line"):
        offpol_package.compose("-m", "seed=1,2")
    cfg["trace"]["lambda_"] = 0.5
    assert offpol_package.train(cfg, tmp_path / "run") is not None
    assert "__main__.Mine" in (tmp_path / "run" / "config.yaml").read_text()
    with pytest.raises(ConfigError, match="is not empty, and"):
        offpol_package.train(cfg, tmp_path)


def test_numbers_of_numpy_are_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    """As a loop over np.linspace gives them; what is saved of them is yaml, and the run goes on."""
    cfg = offpol_package.compose("task=chain", *SMALLER)
    cfg["seed"], cfg["agent"]["gamma"] = np.int64(3), np.float64(0.9)
    cfg["network"]["widths"], cfg["network"]["heads"]["dueling"] = np.array([8]), np.bool_(True)
    assert offpol_package.train(cfg, tmp_path / "run") is not None
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (saved["seed"], saved["agent"]["gamma"], saved["network"]["widths"]) == (3, 0.9, [8])
    outcome = call(main, (f"resume={tmp_path / 'run'}", "run.agent_steps=500"), monkeypatch, capfd)
    assert outcome.code == 0, outcome.err
    cfg["agent"]["gamma"] = np.str_("x")
    with pytest.raises(ConfigError, match=r"agent\.gamma is 'x', but must be a number"):
        offpol_package.train(cfg, tmp_path / "other")
