"""sam-ft: fine-tune Segment Anything on your own images and masks. Start reading at types.py, task.py, train.py."""

import sys

if sys.version_info < (3, 10):  # noqa: UP036  before any import, which an old Python may not be able to read
    sys.stderr.write("error: Python %d.%d runs this; sam-ft needs 3.10 or later\n" % sys.version_info[:2])  # noqa: UP031
    raise SystemExit(2)

from sam_ft.cli.calls import evaluate, train
from sam_ft.data.io.images import read_image
from sam_ft.models import build_model
from sam_ft.predictor import Predictor
from sam_ft.training.checkpoint import load_partial_weights, save_partial_weights

__version__ = "0.1.0"
__all__ = [
    "Predictor",
    "__version__",
    "build_model",
    "evaluate",
    "load_partial_weights",
    "read_image",
    "save_partial_weights",
    "train",
]
