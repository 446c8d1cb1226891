"""The runs of a bench through one of Hydra's launchers: Slurm (submitit), joblib, or whatever plugin is installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
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

from offpol.command_line import VERSION_BASE
from offpol.config import conf_dir
from offpol.errors import ConfigError


@dataclass(frozen=True)
class Runs:
    """What a launcher calls once per job, on whatever machine: the run of the job's number."""

    arguments: tuple[tuple[str, ...], ...]
    logs: tuple[str, ...]

    def __call__(self, cfg: DictConfig) -> int:
        """Run `offpol`; return its exit code."""
        number = int(HydraConfig.get().job.num)
        Path(self.logs[number]).parent.mkdir(parents=True, exist_ok=True)
        with open(self.logs[number], "ab") as log:
            command = [sys.executable, "-m", "offpol.main", *self.arguments[number]]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False)
        return done.returncode


def launch(runs: Runs, overrides: Sequence[str], out: Path) -> list[int]:
    """Give all runs to the launcher that the overrides name, wait for them, return their exit codes.

    How many run at a time is the launcher's business (hydra.launcher.n_jobs, hydra.launcher.array_parallelism).
    Raises ConfigError for a launcher that is not installed, or a setting that it does not have.
    """
    folder = [f"hydra.sweep.dir='{out.absolute()}/launcher'", "hydra.sweep.subdir=${hydra.job.num}"]
    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE, job_name="offpol-bench"):
        loader = GlobalHydra.instance().config_loader()
        try:
            cfg = loader.load_configuration("config", [*overrides, *folder], run_mode=RunMode.MULTIRUN)
        except MissingConfigException as error:
            known = ", ".join(sorted(error.options or ()))
            raise ConfigError(
                f"There is no launcher as in {overrides[0]}: there are {known}; pip install 'offpol[sweep]' adds Slurm."
            ) from error
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(f"{' '.join(overrides)}: {str(error).splitlines()[0]}") from error
        HydraConfig.instance().set_config(cfg)
        context = HydraContext(config_loader=loader, callbacks=Callbacks(cfg))
        launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=runs, config=cfg)
        ended = launcher.launch([[] for _ in runs.arguments], initial_job_idx=0)
    return [int(job.return_value) for job in ended]
