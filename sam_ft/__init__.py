"""sam-ft: fine-tune Segment Anything on your own images and masks. Start reading at types.py, task.py, train.py."""

from sam_ft.checkpoint import load_partial_weights, save_partial_weights
from sam_ft.models import build_model
from sam_ft.predict import Predictor

__all__ = ["Predictor", "build_model", "load_partial_weights", "save_partial_weights"]
