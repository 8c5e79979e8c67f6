"""The jobs of `train.py -m`: one line for each in sweep.jsonl, a table of all so far, and the sweeper that searches."""

import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from filelock import FileLock
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from sam_ft.cli.config import is_sweep_job
from sam_ft.report.sweep import describe_best_job, read_sweep, sweep_table
from sam_ft.utils import distributed
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.files import as_json, write_atomic
from sam_ft.utils.leftovers import remove_leftovers

log = logging.getLogger("sam_ft")


class OptunaSearch(Sweeper):
    """The sweeper of conf/hydra/sweeper/optuna.yaml, which needs the extra `optuna`; see `ResumedSearch`."""

    __module__ = "hydra_plugins.sam_ft"  # Hydra instantiates sweepers of this package alone

    def __init__(self, **options: Any) -> None:
        self._options = options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Raises: ConfigError: the extra is not installed, or torchrun started several processes."""
        try:
            from sam_ft.cli.search import ResumedSearch
        except ImportError as error:
            raise ConfigError(f'hydra/sweeper=optuna: {error}; pip install "sam-ft[optuna]"') from None
        if distributed.world_size() > 1:  # each would draw settings of its own
            raise ConfigError("hydra/sweeper=optuna: expected one process; torchrun runs sweeps without a search")
        self._search = ResumedSearch(**self._options)
        self._search.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> None:
        self._search.sweep(arguments)


def _register_search() -> None:
    """Makes `OptunaSearch` known to Hydra, and conf/hydra/ the configuration of hydra/sweeper=optuna.

    The plugin's own files of the same names, which minimize and forget, would be taken for the schemas of these.
    """
    Plugins.instance().register(OptunaSearch)  # the first call loads all plugins
    sys.modules.setdefault("hydra_plugins", ModuleType("hydra_plugins"))  # there is none without any plugin
    sys.modules[OptunaSearch.__module__] = sys.modules[__name__]
    sweepers = ConfigStore.instance().repo["hydra"]["sweeper"]
    sweepers.pop("optuna.yaml", None)
    sweepers.get("sampler", {}).pop("tpe.yaml", None)


_register_search()


def record_sweep_job(results: dict, monitor: str = "iou") -> None:
    """Adds a finished job to sweep.jsonl, beside the directories of the jobs, and logs all so far.

    results: the scores of the job, or its error · monitor: the score to compare
    """
    if not is_sweep_job() or not distributed.is_main():
        return
    settings = HydraConfig.get()
    path = Path(settings.sweep.dir).expanduser() / "sweep.jsonl"
    with FileLock(path.with_name(".sweep.lock")):  # a launcher may run several jobs at once
        remove_leftovers(path.parent)
        jobs = [job for job in read_sweep(path) if job["job"] != settings.job.num]  # from an earlier start of the sweep
        jobs.append({"job": settings.job.num, "overrides": list(settings.overrides.task), **results})
        write_atomic(path, "".join(as_json(job) + "\n" for job in jobs))
    if "best" in results and len(jobs) > 1:
        log.info("\n%s\n%s", sweep_table(jobs, monitor), describe_best_job(jobs, monitor))
