"""The configuration of a script, composed by a function call instead of the command line."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from sam_ft.cli.hints import CONF, check_setting_names, explain_error
from sam_ft.utils.errors import ConfigError


@contextmanager
def compose(script: str, overrides: Sequence[str]) -> Iterator[DictConfig]:
    """The configuration as Hydra would hand it to the script, which may use Hydra until the end of the block.

    Raises:
        ConfigError: where the command line would print an error of Hydra's or OmegaConf's.
    """
    # The caller may be a program of Hydra's itself: its state is put back at the end.
    cfg_before, hydra_before = HydraConfig.instance().cfg, GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONF), job_name=script, version_base="1.3"):
            cfg = _compose(script, overrides)
            check_setting_names(cfg)
            yield cfg
    except OmegaConfBaseException as error:  # such as a mandatory setting without a value
        raise ConfigError(explain_error(error)) from error
    finally:
        HydraConfig.instance().cfg, GlobalHydra.instance().hydra = cfg_before, hydra_before


def _compose(script: str, overrides: Sequence[str]) -> DictConfig:
    try:
        composed = hydra.compose(script, list(overrides), return_hydra_config=True)
    except (CompactHydraException, ValueError, YAMLError) as error:
        raise ConfigError(explain_error(error)) from error
    HydraConfig.instance().set_config(composed)
    cfg = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    OmegaConf.set_struct(cfg, True)
    return cfg
