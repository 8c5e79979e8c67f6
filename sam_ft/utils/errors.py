"""Errors that the user can fix; a script prints them as one line and exits with their code.

A message names the file, the value found, the expected one and the remedy.
"""


class UserError(Exception):
    """A mistake in the settings or the files; the scripts print its message and exit with `exit_code`."""

    exit_code = 1


class ConfigError(UserError):
    """A setting that does not exist, has a wrong value, or contradicts another one."""

    exit_code = 2


class DataError(UserError):
    """Images or masks that are missing, unreadable or of the wrong format."""

    exit_code = 3


class CheckpointError(UserError):
    """Weights that are missing, damaged, or of another model or format version."""

    exit_code = 4


class DamagedFileError(CheckpointError):
    """A checkpoint whose bytes are not those that were written."""


class TrainingError(UserError):
    """A run that cannot continue: its loss is not finite, memory has run out, or a process has gone."""

    exit_code = 5


class Terminated(KeyboardInterrupt):
    """SIGTERM, which schedulers send to end a job; handled like Ctrl-C, but in training at the end of a step."""

    exit_code = 143


class Preempted(Terminated):
    """SIGUSR1, which Slurm sends on request before it ends a job that is requeued; the same, but no failure."""

    exit_code = 0
