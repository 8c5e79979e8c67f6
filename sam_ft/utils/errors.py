"""Errors that are the user's to mend: one sentence each, never a bare traceback.

A message says what came, what was expected and what to do, and names the file.
"""


class UserError(Exception):
    """A mistake that the person at the keyboard can mend; the scripts print its text and exit with `exit_code`."""

    exit_code = 1


class ConfigError(UserError):
    """A setting that does not exist, or that does not go with another one."""

    exit_code = 2


class DataError(UserError):
    """Images or masks that are missing, unreadable or of the wrong kind."""

    exit_code = 3


class CheckpointError(UserError):
    """Weights that are missing, damaged or of another model."""

    exit_code = 4


class TrainingError(UserError):
    """A run that cannot go on: its loss is no longer a number."""

    exit_code = 5


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which schedulers end a job: nobody's mistake, and handled as Ctrl-C is."""
