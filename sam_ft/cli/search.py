"""A search with Optuna that goes on where it was interrupted. It needs the extra `optuna`."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.utils import instantiate
from omegaconf import DictConfig

os.environ.setdefault("SQLALCHEMY_SILENCE_UBER_WARNING", "1")  # 1.4 warns that Optuna 2 does not fit SQLAlchemy 2
import sqlalchemy

if not sqlalchemy.__version__.startswith("1."):
    raise ImportError(f"the plugin's Optuna needs SQLAlchemy 1.4 and found {sqlalchemy.__version__}")
import optuna
from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl
from optuna.trial import Trial, TrialState

from sam_ft.cli.logs import log_to
from sam_ft.cli.run_config import CHANGEABLE
from sam_ft.report.sweep import describe_best_job, read_sweep, sweep_table
from sam_ft.utils.errors import ConfigError, UserError
from sam_ft.utils.seeds import derive_seed

log = logging.getLogger("sam_ft")


class ResumedSearch(OptunaSweeperImpl):
    """The plugin's search, with these changes for a command that is started again.

    - `n_trials` counts the finished jobs of earlier starts.
    - The number of a job is that of its trial. An interrupted trial keeps its number and settings, so its run
      continues in its own directory.
    - The sampler's seed depends on the trial. The plugin's sampler would begin anew and propose the first settings
      once more.
    """

    config: DictConfig

    def __init__(self, **options: Any) -> None:
        # The plugin requires both and deprecates the first; `params` is the search space.
        super().__init__(search_space=None, custom_search_space=None, **options)

    def sweep(self, arguments: list[str]) -> None:
        """Runs the jobs that are left.

        Raises:
            ConfigError: the search runs already, or had other settings.
            UserError: all jobs have failed.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directory = Path(str(self.sweep_dir)).expanduser()
        self.storage = self.storage and self.storage.replace("sqlite:///~", f"sqlite:///{Path.home()}")
        self.study_name = str(self.study_name)  # name=2024 is a number
        directory.mkdir(parents=True, exist_ok=True)  # SQLite makes the file, not its folder
        try:
            with FileLock(directory / ".search.lock", timeout=0):
                self._continue(arguments, directory)
        except Timeout:
            raise ConfigError(f"{directory}: another search is using this directory; choose another name=") from None

    def _continue(self, arguments: list[str], directory: Path) -> None:
        study = optuna.create_study(
            study_name=self.study_name, storage=self.storage, directions=self._get_directions(), load_if_exists=True
        )
        _check_same_search(study, arguments, directory)
        # A trial without an end was interrupted: this process holds the lock. As a waiting trial it is asked for next.
        open_trials = study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING))
        for trial in open_trials:
            study._storage.set_trial_state(trial._trial_id, TrialState.WAITING)
        done = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        self.n_trials = max(0, self.n_trials - done)
        self.sampler = self._sampler_at(min((trial.number for trial in open_trials), default=len(study.trials)))
        try:
            super().sweep(arguments)
        except ValueError:  # the plugin reads the best trial even if there is none
            if {trial.state for trial in study.get_trials(deepcopy=False)} != {TrialState.FAIL}:
                raise
            raise UserError(
                f"all jobs of the search have failed; their errors are in {directory}/sweep.jsonl"
            ) from None
        if self.n_trials == 0 and (jobs := read_sweep(directory / "sweep.jsonl")):
            monitor = self.config.monitor
            with log_to():
                log.info("%s\n%s", sweep_table(jobs, monitor), describe_best_job(jobs, monitor))

    def _configure_trials(self, trials: list[Trial], *spaces: Any) -> Sequence[Sequence[str]]:
        """Called by the plugin for the trials of a batch, before it launches them as the jobs from `job_idx` on."""
        overrides = super()._configure_trials(trials, *spaces)
        # The numbers follow on each other: the plugin ends the trials of a batch in their order.
        self.job_idx = trials[0].number
        if self.config.hydra.sweeper.sampler.get("seed") is not None:
            trials[0].study.sampler = self._sampler_at(trials[-1].number + 1)
        return overrides

    def _sampler_at(self, number: int) -> Any:
        """The sampler that proposes the settings of a trial. The samplers read all else from the study."""
        node = self.config.hydra.sweeper.sampler
        seeded = {} if node.get("seed") is None else {"seed": derive_seed(node.seed, number) % 2**32}
        return instantiate(node, **seeded)


def _check_same_search(study: optuna.Study, arguments: list[str], directory: Path) -> None:
    """Refuses to mix jobs with other settings into a search, apart from those that a run may change."""
    now = sorted(one for one in arguments if one.partition("=")[0].split(".")[0] not in CHANGEABLE)
    then = study.user_attrs.get("settings", now)
    if then != now:
        changed = ", ".join(sorted(set(then) ^ set(now))[:5])
        raise ConfigError(
            f"{directory} holds a search with other settings (there or now: {changed}). Choose another name=..."
        )
    study.set_user_attr("settings", now)
