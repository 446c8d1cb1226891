"""The runs of a bench through one of Hydra's launchers: Slurm (submitit), joblib, or whatever plugin is installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from offpol.bench.plan import Task
from offpol.bench.pool import close_input, start_child
from offpol.cli.command_line import VERSION_BASE
from offpol.config import conf_dir
from offpol.errors import ConfigError, RunError, install
from offpol.record.run_directory import CHECKPOINTS


@dataclass(frozen=True)
class Runs:
    """What a launcher calls once per job, on whatever machine: the run of the job's number."""

    tasks: tuple[Task, ...]
    config_dir: str | None

    def __call__(self, cfg: DictConfig) -> int:
        """Run `offpol`; return its exit code. The run saves itself where this process is ended."""
        task = self.tasks[int(HydraConfig.get().job.num)]
        if any((task.directory / CHECKPOINTS).glob("*/manifest.json")):  # a cluster has put the job in its queue again
            task = replace(task, state="resume")
        process = start_child(task.arguments(config_dir=self.config_dir), task.log)
        try:
            return process.wait()
        finally:
            close_input(process)
            process.wait()


def launch(runs: Runs, overrides: Sequence[str], out: Path) -> list[int]:
    """Give all runs to the launcher that the overrides name, wait for them, return their exit codes.

    How many run at a time is the launcher's business (hydra.launcher.n_jobs, hydra.launcher.array_parallelism).
    Raises ConfigError for a launcher that is not installed, or a setting that it does not have, and RunError where
    the launcher stops waiting, as submitit does for a job that the cluster has ended.
    """
    folder = [f"hydra.sweep.dir='{out.absolute()}/launcher'", "hydra.sweep.subdir=${hydra.job.num}"]
    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE, job_name="offpol-bench"):
        loader = GlobalHydra.instance().config_loader()
        try:
            cfg = loader.load_configuration("config", [*overrides, *folder], run_mode=RunMode.MULTIRUN)
        except MissingConfigException as error:
            known = ", ".join(sorted(error.options or ()))
            raise ConfigError(
                f"There is no launcher as in {overrides[0]}: there are {known}; {install('sweep')} adds Slurm."
            ) from error
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(f"{' '.join(overrides)}: {str(error).splitlines()[0]}") from error
        HydraConfig.instance().set_config(cfg)
        context = HydraContext(config_loader=loader, callbacks=Callbacks(cfg))
        launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=runs, config=cfg)
        try:
            ended = launcher.launch([[] for _ in runs.tasks], initial_job_idx=0)
        except Exception as error:
            said = (str(error).strip().splitlines() or [""])[0]
            raise RunError(f"The launcher stopped waiting ({type(error).__name__}: {said}).") from error
    return [int(job.return_value) for job in ended]
