"""docs/extending.md does what it says: its package is written out from the text, and its command is run."""

import re
import sys
from pathlib import Path

import pytest
from command import call, run_folder

from offpol.config import conf_dir
from offpol.main import main

TEXT = (conf_dir().parent / "docs" / "extending.md").read_text()
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
