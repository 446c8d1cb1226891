"""The `offpol` command: reads what was asked for, and starts, sweeps or resumes runs (`offpol.training`).

torch is imported by the functions that need it: help, completion and mistakes are answered without.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from offpol import processes
from offpol.checks import check_config, gathered_otherwise
from offpol.cli import command_line
from offpol.cli.ending import MISTAKE, ending, exit_code, sentence_of
from offpol.cli.groups import help_text
from offpol.cli.overlaid import left_on_host, replaced_by_task
from offpol.cli.resuming import require_not_shorter, require_unedited, resumed_config, split_resume
from offpol.cli.saved_config import load_saved
from offpol.config import conf_dir
from offpol.errors import ConfigError
from offpol.output import say, tell
from offpol.record.own_code import other_code
from offpol.record.run_directory import CHECKPOINTS, evaluated_at, read_info, require_writable, resume_command
from offpol.record.run_keys import EVALUATED

SWEPT: set[str] = set()  # the keys that a sweep varies: they name its folders
FOUND: set[Path] = set()  # the folders, of those that runs go into, which were there before
SAID: set[str] = set()  # what was told of the configs of a sweep


def _sweep_name(overrides: Sequence[str]) -> str:
    """Name a job of a sweep by what sets it apart."""
    varied = [text for text in overrides if not SWEPT or text.partition("=")[0] in SWEPT]
    return ",".join(varied)[:150].replace("/", "-")


OmegaConf.register_new_resolver("offpol_sweep_name", _sweep_name, replace=True)


class JobFailed(CompactHydraException):
    """One job of a sweep failed and said why; Hydra goes on with the others and exits 1 at the end."""


def job(composed: DictConfig) -> float | None:
    """What Hydra calls once per run, with the composed config."""
    hydra_cfg = HydraConfig.get()
    directory = _short(Path(hydra_cfg.runtime.output_dir))
    sweep = hydra_cfg.mode == RunMode.MULTIRUN
    try:
        cfg = _told(composed, hydra_cfg)
        check_config(cfg)
        from offpol.training import train

        named = any(override.startswith("hydra.run.dir=") for override in hydra_cfg.overrides.hydra)
        return train(cfg, directory, or_beside=not (named or sweep))
    except Exception as error:
        if isinstance(error, ConfigError):
            _remove_empty(directory)
        said = sentence_of(error)
        tell(f"offpol: {said}" if said else traceback.format_exc().rstrip())  # Hydra would cut the traceback short
        if not sweep:
            sys.exit(exit_code(error))
        raise JobFailed(said or f"{type(error).__name__}: {error}") from None


def _told(composed: DictConfig, hydra_cfg: Any) -> dict[str, Any]:
    """Return a run's config; say, of the jobs of a sweep once, what was set and is not in it."""
    left_out: list[str] = []
    cfg = command_line.plain(composed, hydra_cfg, left_out)
    sentences = []
    if left_out:
        sentences.append(f"left out, as it is for other parts than those chosen: {', '.join(left_out)}.")
    if replaced := replaced_by_task(composed, cfg, hydra_cfg):
        sentences.append(
            f"the task is put on top of the experiment and replaces its {', '.join(replaced)}: to have your own, give "
            f"it on the command line, as in {replaced[0]}=..."
        )
    if own := left_on_host(hydra_cfg):
        way = "replay.alpha=0 draws as that does" if own == "uniform" else f"nothing on a device draws as {own} does"
        sentences.append(f"replay=on_device draws by priorities, where the experiment has replay={own}: {way}.")
    if otherwise := gathered_otherwise(cfg):
        sentences.append(
            f"the rows of replay.offline were gathered with {', '.join(otherwise)}, and this run plays otherwise."
        )
    for sentence in sentences:
        if sentence not in SAID:
            SAID.add(sentence)
            tell(f"offpol: {sentence}")
    return cfg


def _remove_empty(directory: Path) -> None:
    """Remove a folder in which nothing was written, and those above it, as far as Hydra made them."""
    for folder in (directory.absolute(), *directory.absolute().parents):
        if folder in FOUND or not folder.is_dir() or any(folder.iterdir()):
            return
        folder.rmdir()


def _short(path: Path) -> Path:
    """Say a path as a person standing here would."""
    return path.relative_to(Path.cwd()) if Path.cwd() in path.parents else path


def launch(arguments: list[str]) -> None:
    """Check what was asked for, then let Hydra run it."""
    args = command_line.parse(arguments)
    acts = not (args.cfg or args.info or args.help)
    if args.multirun and processes.world_size() > 1:
        raise ConfigError("A sweep (-m) cannot be started by torchrun: start each of its runs by itself.")
    SAID.clear()
    SWEPT.update(command_line.swept_keys(args))
    if not (args.hydra_help or args.shell_completion or args.experimental_rerun):
        jobs = []
        for composed in command_line.compositions(args):
            if args.help and (text := help_text(composed)):
                say(text)
                return
            if acts:
                jobs.append(command_line.plain(composed))
                check_config(jobs[-1])
                _check_folder(command_line.output_folder(composed, args.multirun), args.multirun)
        if args.multirun:  # or a job's mistake would be told when its turn comes
            from offpol.assembly import check_parts_of

            for cfg in jobs:
                check_parts_of(cfg)
    sys.argv = [sys.argv[0], *command_line.for_hydra(arguments, args.overrides)]
    hydra.main(config_path=str(conf_dir()), config_name="config", version_base=command_line.VERSION_BASE)(job)()


def resume(arguments: list[str]) -> None:
    """Go on with an interrupted run from its newest whole checkpoint."""
    directory, cfg, changed = _saved(arguments)
    require_writable(directory, "copy the run to where it can, and resume that.")
    if steps := _finished_at(cfg, directory, changed):
        longer = f"{resume_command(directory)} run.agent_steps=..."
        kept = f" Nothing is left to do, so nothing was changed ({', '.join(changed)})." if changed else ""
        say(f"{directory} is finished: {steps:,} agent steps.{kept} Longer: {longer}")
        return
    for part in other_code(read_info(directory)):
        tell(
            f"offpol: The code of {part} is not what this run was made with, and it goes on by the new code: start "
            "another run, in a folder of its own, for one by that alone."
        )
    from offpol.training import train

    train(cfg, directory, resumed=changed)


def _saved(arguments: list[str]) -> tuple[Path, dict[str, Any], dict[str, object]]:
    """Return the folder of the run to be resumed, its checked config, and what of it was changed."""
    directory, rest = split_resume(arguments)
    cfg = load_saved(directory)
    require_unedited(cfg, read_info(directory))
    changed = resumed_config(cfg, command_line.parse_assignments(rest))
    if "run.agent_steps" in changed:
        require_not_shorter(cfg, _played(directory))
    check_config(cfg)
    return directory, cfg, changed


def _played(directory: Path) -> int:
    """Return the agent steps of a run at its newest checkpoint."""
    from offpol.record import checkpoint

    steps: int = checkpoint.load_newest(directory / CHECKPOINTS, only=["run"]).about["agent_steps"]
    return steps


def _finished_at(cfg: Mapping[str, Any], directory: Path, changed: Mapping[str, object]) -> int | None:
    """Return the agent steps of a run with nothing left to do, or None; one that is to be evaluated otherwise has."""
    steps = _played(directory)
    evaluated = evaluated_at(directory) == steps and not EVALUATED & changed.keys()
    evaluated = evaluated or cfg["run"]["eval_episodes"] == 0
    return steps if steps >= cfg["run"]["agent_steps"] and evaluated else None


def _shared_config(arguments: list[str]) -> dict[str, Any] | None:
    """Return the config that the first process of a data-parallel run is starting or resuming; None if it is done."""
    if any(argument.startswith("resume=") for argument in arguments):
        directory, cfg, changed = _saved(arguments)
        return None if _finished_at(cfg, directory, changed) else cfg
    cfg = command_line.composed(arguments)
    check_config(cfg)
    return cfg


def _serve(arguments: list[str]) -> None:
    """Compute with the first process of a data-parallel run, which speaks for all of a mistake."""
    try:
        if shared := _shared_config(arguments):
            from offpol.assembly import serve_rank

            serve_rank(shared)
    except ConfigError:
        sys.exit(MISTAKE)


def _check_folder(folder: Path, sweep: bool) -> None:
    from offpol.record.run_directory import require_new

    require_writable(folder, f"name another folder with hydra.{'sweep' if sweep else 'run'}.dir=...")
    FOUND.update(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    require_new(folder, sweep)


def main() -> None:
    """The `offpol` command; a run that is interrupted and saves itself exits by 128 and the signal's number."""
    arguments = sys.argv[1:]
    # Read by torch's OpenMP when it is first imported: a worker thread that waits spins about 50 us before it sleeps.
    # By default it spins for ever, and two runs beside each other then take turns at doing nothing.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    with ending("offpol", "stopped at once; a run that has a checkpoint goes on by offpol resume=RUN_DIR"):
        processes.end_with_launcher()
        if processes.rank() > 0:
            _serve(arguments)
        elif any(argument.startswith("resume=") for argument in arguments):
            resume(arguments)
        else:
            launch(arguments)


if __name__ == "__main__":
    main()
