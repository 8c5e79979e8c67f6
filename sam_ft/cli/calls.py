"""train.py and evaluate.py as functions, for notebooks and scripts; they raise errors instead of ending the program."""

from collections.abc import Sequence
from importlib import import_module

from sam_ft.utils import distributed
from sam_ft.utils.errors import ConfigError


def train(overrides: Sequence[str] = ()) -> float:
    """Trains one run as `train.py` does, and returns its best validation score.

    overrides: settings as on the command line, such as ["data=folder", "data.root=cells", "epochs=5"]

    Raises:
        UserError: a setting, the data or a checkpoint is wrong; the message says what to do.
    """
    return _call("train", overrides)


def evaluate(overrides: Sequence[str] = ()) -> float:
    """Evaluates as `evaluate.py` does, and returns the tuned IoU, or the zero-shot one where nothing was tuned.

    overrides: settings as on the command line, such as ["run=outputs/cells", "+data.root=other"]

    Raises:
        UserError: see `train`.
    """
    return _call("evaluate", overrides)


def _call(script: str, overrides: Sequence[str]) -> float:
    """Composes the configuration of a script, checks it as on the command line, and runs the script's body."""
    import hydra  # here, with what needs it: a program that only predicts starts without Hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import CompactHydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from sam_ft.cli.hints import CONF, check_setting_names, explain_error

    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), job_name=script, version_base="1.3"), distributed.process_group():
        try:
            composed = hydra.compose(script, list(overrides), return_hydra_config=True)
        except (CompactHydraException, OmegaConfBaseException, ValueError, YAMLError) as error:
            raise ConfigError(explain_error(error)) from error
        HydraConfig.instance().set_config(composed)
        try:
            # As Hydra hands it to a script: without its own node.
            cfg = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
            OmegaConf.set_struct(cfg, True)
            check_setting_names(cfg)
            return import_module(f"sam_ft.recipes.{script}").run(cfg)
        except OmegaConfBaseException as error:  # such as a mandatory setting without a value
            raise ConfigError(explain_error(error)) from error
        finally:
            HydraConfig.instance().cfg = None
