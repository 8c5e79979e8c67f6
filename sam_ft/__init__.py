"""sam-ft: fine-tune Segment Anything on your own images and masks. Start reading at types.py, task.py, train.py."""

from sam_ft.models import build_model
from sam_ft.predictor import Predictor
from sam_ft.training.checkpoint import load_partial_weights, save_partial_weights

__all__ = ["Predictor", "build_model", "load_partial_weights", "save_partial_weights"]
