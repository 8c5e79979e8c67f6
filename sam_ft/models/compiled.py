"""torch.compile for the parts that take most of the time."""

import os
import shutil

from sam_ft.models.sam import Sam
from sam_ft.utils.errors import ConfigError


def compile_parts(model: Sam, backend: str = "inductor") -> None:
    """Compiles image encoder and mask decoder when they first run.

    Raises:
        ConfigError: there is no C++ compiler.
    """
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++", "cl")):
        raise ConfigError("compile=true needs a C++ compiler, and none was found; install g++, or leave it out")
    model.image_encoder.compile(backend=backend)
    model.mask_decoder.compile(backend=backend, dynamic=True)  # the number of objects varies
