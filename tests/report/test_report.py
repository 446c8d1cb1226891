"""offpol-report from end to end on runs whose scores are known."""

import csv
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from command import Outcome, call
from fake_runs import write_plan, write_run
from matplotlib.figure import Figure

from offpol.bench.suite import expand, load_suite
from offpol.reference_scores import baselines, human_random, table_hash
from offpol.report import command, curves

SCORES = {  # human-normalised, of two seeds
    ("trace=retrace", "Krull"): (1.0, 2.0), ("trace=retrace", "Boxing"): (0.5, 0.7),
    ("trace=n_step", "Krull"): (0.8, 0.9), ("trace=n_step", "Boxing"): (0.1, None),
    ("trace=one_step", "Krull"): (0.4, 0.5), ("trace=one_step", "Boxing"): (None, None),
}  # fmt: skip


class Written(NamedTuple):
    out: Path
    said: str
    text: str
    page: str


def write_runs(folder: Path) -> None:
    grid = ["env.game=Krull,Boxing", "seed=0,1", "trace=retrace,n_step,one_step"]
    jobs = expand(load_suite("s6"), grid)
    write_plan(folder, "s6", jobs)
    for job in jobs:
        normal = SCORES[job.label, job.game][job.seed]
        if normal is None and job.label == "trace=one_step":
            continue
        low, high = human_random()[job.game]
        score = None if normal is None else low + (high - low) * normal
        reached = 0.5 if normal is None else 1.0
        write_run(folder / job.label / job.game / str(job.seed), job, score, start=low, reached=reached)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Written:
    folder = tmp_path_factory.mktemp("report")
    write_runs(folder / "runs")
    for job in expand(load_suite("minatar"), ["env.game=breakout,asterix", "seed=0"]):
        write_run(folder / "mini" / job.game, job, 8.0)
    words = [str(folder / "runs"), str(folder / "mini")]
    said = command.report(words, folder / "out", "A <title>", [], True)
    out = folder / "out"
    return Written(out, said, (out / "report.md").read_text(), (out / "index.html").read_text())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_aggregates_are_those_of_the_scores(written: Written) -> None:
    found = {(row["agent"], row["measure"]): row for row in rows(written.out / "aggregates.csv")}
    iqm = found["trace=retrace", "IQM"]
    assert float(iqm["value"]) == pytest.approx((0.7 + 1.0) / 2)
    assert float(iqm["low_95"]) < float(iqm["value"]) < float(iqm["high_95"])
    assert float(found["trace=n_step", "mean"]["value"]) == pytest.approx((0.85 + 0.1) / 2)
    beats = found["trace=retrace", "P(better than trace=n_step)"]  # the better one first
    assert float(beats["value"]) == 1.0
    assert float(found["SPR", "IQM"]["value"]) > 1
    assert ("trace=one_step", "IQM") not in found
    assert "**trace=retrace** 0.85 [" in written.text
    assert "trace=retrace 0.85 [" in written.said


def test_what_is_missing_is_shown(written: Written) -> None:
    assert "**trace=n_step** lacks Boxing (seed 1)." in written.text
    assert "**trace=one_step** lacks Boxing (seeds 0, 1)." in written.text
    assert re.search(r"\| \*\*trace=one_step\*\* \| — \| — \| — \| — \| 2 \| 1 of 2 \|", written.text)
    assert re.search(r"\| \*\*trace=n_step\*\* .* \| 1 to 2 \| 2 of 2 \|", written.text)
    unfinished = [row for row in rows(written.out / "runs.csv") if row["finished"] == "False"]
    assert [(row["agent"], row["game"], row["seed"], row["score"]) for row in unfinished] == [
        ("trace=n_step", "Boxing", "1", "")
    ]


def test_published_agents_stand_beside_only_where_protocols_match(written: Written) -> None:
    for name in ("SPR †", "BBF RR2", "DER †"):
        assert f"| {name} |" in written.text
    assert "| DreamerV3 |" not in written.text
    for text in (written.text, written.said):
        assert "DreamerV3 is not shown beside these runs: published are training returns" in text
        assert "BBF RR2 sticky 100k is not shown beside these runs: sticky actions: 0.25, here 0." in text
    assert re.search(r"\| DER † \| 0\.\d\d \* \|", written.text)  # of game means: marked


def test_facts_of_the_protocol_are_kept_with_every_score(written: Written) -> None:
    row = rows(written.out / "runs.csv")[0]
    for fact, value in {
        "name": "atari100k", "sticky_probability": "0.0", "noop_max": "30", "life_loss": "terminates",
        "full_action_space": "False", "reward_clipping": "True", "max_frames_per_episode": "108000",
        "evaluation_epsilon": "0.001", "evaluated_policy": "final", "budget_agent_steps": "100000",
        "budget_frames": "400000", "evaluation_episodes": "100",
    }.items():  # fmt: skip
        assert row[fact] == value, fact
    assert {row["human_random_sha256"] for row in rows(written.out / "aggregates.csv")} >= {table_hash()}


def test_games_without_a_human_reference_are_reported_raw(written: Written) -> None:
    _, _, mini = written.text.partition("## MinAtar, 500,000 agent steps")
    assert mini
    assert "raw scores." in mini
    assert "IQM" not in mini.partition("## ")[0].replace("IQM over runs", "")
    assert re.search(r"\| MinAtar-breakout \| 8\.00 \(1\)", mini)
    assert not [row for row in rows(written.out / "aggregates.csv") if row["comparison"].startswith("MinAtar")]


def test_without_a_human_the_best_agent_of_each_game_is_the_scale(tmp_path: Path, no_pictures) -> None:
    """Random play is 0 and the better agent's mean 1, in each game by itself."""
    found = {row.game: row.mean for row in baselines() if row.name == "random" and row.protocol == "minatar"}
    gain = {"dqn": {"breakout": 10.0, "asterix": 4.0}, "default": {"breakout": 20.0, "asterix": 1.0}}
    jobs = expand(load_suite("minatar"), ["env.game=breakout,asterix", "seed=0,1", "experiment=default,dqn"])
    for job in jobs:
        start = found[job.game]
        score = start + gain[job.label][job.cfg["env"]["game"]] + (0.5 if job.seed else -0.5)
        write_run(tmp_path / "runs" / job.label / job.game / str(job.seed), job, score, start=start)
    said = command.report([str(tmp_path / "runs")], tmp_path / "out", "t", [], True)
    assert "IQM of the score relative to the best agent: default 0.6" in said
    found_rows = {(row["agent"], row["measure"]): row for row in rows(tmp_path / "out" / "aggregates.csv")}
    assert float(found_rows["default", "mean"]["value"]) == pytest.approx((1 + 0.25) / 2)
    assert float(found_rows["dqn", "mean"]["value"]) == pytest.approx((0.5 + 1) / 2)
    assert float(found_rows["random", "mean"]["value"]) == 0
    assert float(found_rows["dqn", "P(better than default)"]["value"]) == 0.5
    assert found_rows["dqn", "IQM"]["scale"] == "score relative to the best agent"
    assert found_rows["dqn", "IQM"]["human_random_sha256"] == ""
    text = (tmp_path / "out" / "report.md").read_text()
    assert "These games have no human reference." in text
    assert (tmp_path / "out" / "figures" / "1-curves.png").exists()


@pytest.mark.parametrize("other", [0.1, 0.5])
def test_a_game_that_nobody_has_learned_makes_no_scale(tmp_path: Path, no_pictures, other: float) -> None:
    """The best agent has one lucky run above who does not learn, and one below."""
    jobs = expand(load_suite("minatar"), ["env.game=breakout,asterix", "seed=0,1", "experiment=default,dqn"])
    for job in jobs:
        score = 5.0 if job.cfg["env"]["game"] == "breakout" else 2.0 if job.seed and job.label == "dqn" else other
        write_run(tmp_path / "runs" / job.label / job.game / str(job.seed), job, score)
    said = command.report([str(tmp_path / "runs")], tmp_path / "out", "t", [], True)
    assert "There is no aggregate, for no agent has learned MinAtar-asterix: even" in said
    drawn = {file.stem for file in (tmp_path / "out" / "figures").iterdir()}
    assert {"1-games", "1-games-minutes", "1-games-updates"} <= drawn  # as there are no curves over all games
    assert "1-curves" not in drawn
    assert "raw scores" in said
    assert "IQM" not in said


def test_how_off_policy_runs_were_is_told(written: Written) -> None:
    assert "### How off-policy it was" in written.text
    cells = "5 | 2.50 | 4.50 | 38% | 12% | 6% | 50% | 25% | 6% | 25% | 25% | — | — |"
    assert f"| **trace=retrace** | {cells}" in written.text
    assert "figures/1-off-policy.png" in written.text


def test_what_noisy_layers_log_of_mu_is_left_out(tmp_path: Path, no_pictures) -> None:
    for job in expand(load_suite("minatar"), ["env.game=breakout", "seed=0", "experiment=default,rainbow"]):
        write_run(tmp_path / "runs" / job.label, job, 5.0)
    command.report([str(tmp_path / "runs")], tmp_path / "out", "t", [], True)
    text = (tmp_path / "out" / "report.md").read_text()
    assert re.search(r"\*\*default\*\* \| 5 \| .* \| 25% \| 25% \| — \| — \|", text)
    assert re.search(r"\*\*rainbow\*\* \| 3 \| .* \| 6% \| — \| — \| — \| — \|", text)


def test_what_data_without_probabilities_would_say_of_them_is_left_out(tmp_path: Path, no_pictures) -> None:
    (job,) = expand(load_suite("minatar"), ["env.game=breakout", "seed=0", "experiment=default"])
    info = write_run(tmp_path / "runs", job, 5.0) / "info.json"
    info.write_text(json.dumps({**json.loads(info.read_text()), "mu_known": False}))
    command.report([str(tmp_path / "runs")], tmp_path / "out", "t", [], True)
    assert (
        "| 5 | 2.50 | 4.50 | 38% | 12% | 6% | — | — | 6% | — | — | — | — |"
        in (tmp_path / "out" / "report.md").read_text()
    )


class Links(HTMLParser):
    """Collects what a page would load, its headings, and whether its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []
        self.svgs = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.svgs += tag == "svg"
        self.loads += [v for k, v in attrs if v and k in ("src", "href", "xlink:href") and not v.startswith("#")]
        if tag not in ("meta", "br", "img", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [v for k, v in attrs if v and k in ("src", "href", "xlink:href") and not v.startswith("#")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_one_whole_file(written: Written) -> None:
    page = Links()
    page.feed(written.page)
    assert not page.loads
    assert not page.open
    assert written.page.count("<figure>") == len(list((written.out / "figures").glob("*.svg"))) >= 6
    assert page.svgs > written.page.count("<figure>")  # of several panels
    for name in {*re.findall(r"url\(#([^)]+)\)", written.page), *re.findall(r'href="#([^"]+)"', written.page)}:
        assert written.page.count(f'id="{name}"') == 1, name
    assert "A &lt;title&gt;" in written.page
    for stem in ("1-aggregates", "1-profiles", "1-improvement", "1-curves", "1-games", "2-games"):
        assert (written.out / "figures" / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
        assert f"figures/{stem}.png" in written.text


def test_the_curves_file_has_every_run(written: Written) -> None:
    found = rows(written.out / "curves.csv")
    assert {(row["agent"], row["game"], row["seed"]) for row in found} >= {
        ("trace=retrace", "Krull", "1"), ("trace=n_step", "Boxing", "1")
    }  # fmt: skip
    assert max(int(row["agent_steps"]) for row in found if row["agent"] == "trace=n_step" and row["game"] == "Boxing"
               and row["seed"] == "1") == 50_000  # fmt: skip
    assert all(int(row["frames"]) == 4 * int(row["agent_steps"]) for row in found if row["game"] == "Krull")


@pytest.fixture
def offpol_report(tmp_path: Path, monkeypatch, capfd, no_pictures) -> Callable[..., Outcome]:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: call(command.main, arguments, monkeypatch, capfd)


def test_games_can_be_chosen_and_mistakes_are_told(offpol_report: Callable[..., Outcome], tmp_path: Path) -> None:
    write_runs(tmp_path / "runs")
    outcome = offpol_report("runs", "--out", "out", "--games", "Krull", "--no-published")
    assert outcome.code == 0, outcome.err
    assert "trace=one_step 0.45 [" in outcome.out
    assert "SPR" not in (tmp_path / "out" / "report.md").read_text()
    for arguments, sentence in (
        (["runs", "--out", "x", "--games", "Krul"], "No run plays Krul: did you mean 'Krull'?"),
        (["nothing", "--out", "x"], "nothing holds no run"),
        (["runs", "--out", "/proc/x"], "name another folder with --out"),
    ):
        refused = offpol_report(*arguments)
        assert refused.code == 2
        assert sentence in refused.err
    assert not (tmp_path / "x").exists()


def test_runs_of_other_protocols_and_budgets_never_share_a_table(tmp_path: Path, no_pictures) -> None:
    changed = "env.protocol.sticky_probability=0.1"
    for number, more in enumerate([(), ("env/preset=sticky",), ("run.agent_steps=50000",), (changed,)]):
        (job,) = expand(load_suite("s6"), ["env.game=Krull", "seed=0", *more])
        write_run(tmp_path / str(number), job, 2000.0)
    said = command.report([str(tmp_path)], tmp_path / "out", "t", [], True)
    text = (tmp_path / "out" / "report.md").read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "Atari, preset atari100k with sticky_probability=0.1, 100,000 agent steps",
        "Atari, preset atari100k, 100,000 agent steps", "Atari, preset atari100k, 50,000 agent steps",
        "Atari, preset sticky, 100,000 agent steps",
    ]  # fmt: skip
    sticky = text.partition("preset sticky")[2]
    assert "| SPR" not in sticky
    assert "SPR is not shown beside these runs: sticky actions: 0, here 0.25" in sticky
    assert "SPR is not shown beside these runs" in said


def test_dopamines_training_returns_get_a_table_of_their_own(tmp_path: Path, no_pictures) -> None:
    more = ["env.game=Krull", "seed=0", "run.agent_steps=1000000", "behavior.epsilon.end=0.01"]
    (job,) = expand(load_suite("atari57"), more)
    low, high = human_random()["Krull"]
    write_run(tmp_path / "run", job, 3000.0, start=low)
    command.report([str(tmp_path)], tmp_path / "out", "t", [], True)
    text = (tmp_path / "out" / "report.md").read_text()
    final, _, training = text.partition("## Atari, preset sticky, 1,000,000 agent steps: while training")
    assert "| Dopamine Rainbow |" in training.replace(" † ", " ")
    assert "| Dopamine Rainbow" not in final
    value = float(re.search(r"\| \*\*default\*\* \| (-?[\d.]+)", training)[1])
    assert 0.8 * (3000 - low) / (high - low) < value < (3000 - low) / (high - low)
    assert "random actions in evaluation" not in training
    assert "each seed's score as a dot" in training
    found = {row["statistic"]: float(row["score"]) for row in rows(tmp_path / "out" / "runs.csv")}
    assert found["final_evaluation"] == 3000.0 > found["training_1m_frames"]


def test_agents_that_explored_otherwise_do_not_stand_beside_dopamines(tmp_path: Path, no_pictures) -> None:
    more = ["env.game=Krull", "seed=0", "run.agent_steps=1000000", "behavior.epsilon.end=0.5"]
    write_run(tmp_path / "run", expand(load_suite("atari57"), more)[0], 3000.0)
    said = command.report([str(tmp_path)], tmp_path / "out", "t", [], True)
    assert "while training" not in said


def test_names_that_join_different_configs_are_warned_of(tmp_path: Path, no_pictures) -> None:
    jobs = expand(load_suite("s6"), ["env.game=Krull", "seed=0", "trace=retrace,n_step"])
    for job in jobs:
        write_run(tmp_path / job.label, job, 2000.0)
    said = command.report([f"mine={tmp_path}"], tmp_path / "out", "t", [], False)
    assert "mine joins 2 different configs" in said
    scores = [float(row["score"]) for row in rows(tmp_path / "out" / "runs.csv")]
    assert np.allclose(scores, 2000.0)


def test_a_curve_begins_where_the_run_did() -> None:
    """Games that ended before the first row was logged do not all lie on it."""
    logged = {"agent steps": np.array([500.0, 1000.0]), "minutes": np.array([1.0, 3.0])}
    run = SimpleNamespace(curve=(np.array([0.0, 250, 500, 750, 1000, 1250]), None), axes=logged)
    np.testing.assert_allclose(curves._axis(run, "agent steps"), [0, 250, 500, 750, 1000, np.nan])
    np.testing.assert_allclose(curves._axis(run, "minutes"), [0, 0.5, 1, 2, 3, np.nan])


def test_minutes_are_not_written_as_thousandths() -> None:
    axes = Figure().add_subplot()
    axes.plot([0, 0.02], [0, 1])
    curves._label_numbers(axes, "minutes")
    assert "0.01" in [axes.xaxis.get_major_formatter()(tick, None) for tick in (0.01, 0.02)]
