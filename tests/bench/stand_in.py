"""Stands in for `offpol` in tests of offpol-bench: leaves a run's files at once, or fails, or waits to be stopped.

What each run does is read from plan.json in the working folder: folder -> config and deed.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import yaml

from offpol.bench.child import end_with_parent
from offpol.record.own_code import own_code


def finish(folder: Path, steps: int, deed: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(deed["cfg"]))
    (folder / "info.json").write_text(json.dumps({"command": sys.argv, "own_code": own_code(deed["cfg"])}))
    row = {"agent_steps": steps, "machine/wall_s": 1.0, "machine/agent_steps_per_s": steps, "episode_return": 1.5}
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    save = folder / "checkpoints" / "000001"
    save.mkdir(parents=True, exist_ok=True)
    (save / "manifest.json").write_text(json.dumps({"about": {"agent_steps": steps}}))
    if steps >= deed["cfg"]["run"]["agent_steps"]:
        result = {"agent_steps": steps, "mean": 4.0, "epsilon": 0.0, "episodes": 3}
        (folder / "evaluation.json").write_text(json.dumps(result))


def main() -> None:
    word = sys.argv[-1]
    resumed = word.startswith("resume=")
    folder = Path(word.partition("=")[2].strip("'"))
    deed = json.loads(Path("plan.json").read_text())[str(folder)]
    budget = deed["cfg"]["run"]["agent_steps"]
    with open("ran.txt", "a") as file:
        file.write(f"{'resume' if resumed else 'start'} {folder.parent.name} {folder.name}\n")
    if deed["deed"] == "fail" and not resumed:
        print("ValueError: the reason", file=sys.stderr)
        sys.exit(1)
    if deed["deed"] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if deed["deed"] == "wait" and not resumed:
        threading.Thread(target=end_with_parent, daemon=True).start()
        signal.signal(signal.SIGTERM, lambda *_: (finish(folder, budget // 2, deed), sys.exit(143)))
        Path("waiting").touch()
        time.sleep(60)
    finish(folder, budget, deed)


main()
