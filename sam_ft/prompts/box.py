"""A box around each object."""

from sam_ft.prompts.base import Prompter
from sam_ft.prompts.noise import normal
from sam_ft.types import Batch, Prompts
from sam_ft.utils.geometry import fit_boxes, grow_boxes, jitter_boxes


class Box(Prompter):
    """Prompts with the tight box of each object, scaled and jittered.

    jitter: standard deviation of each side's shift, as a share of the box's width (x) or height (y); SAM used 0.1
    max_jitter: no side moves further than this, in pixels of a 1024 input; smaller inputs in proportion
    scale: the box grows by this factor around its center, before the jitter

    Source: Kirillov et al., Segment Anything, appendix A, "Training algorithm".
    """

    def __init__(self, jitter: float = 0.0, max_jitter: float = 20.0, scale: float = 1.0) -> None:
        if jitter < 0 or max_jitter < 0 or scale <= 0:
            raise ValueError(
                f"jitter={jitter}, max_jitter={max_jitter} and scale={scale} were given; "
                "expected jitter and max_jitter of at least 0 and a scale above 0"
            )
        self.jitter = jitter
        self.max_jitter = max_jitter
        self.scale = scale

    def __call__(self, batch: Batch, seed: int) -> Prompts:
        """boxes: (M, 4) in the input frame, inside the image and at least 1 pixel wide and high.

        Without jitter and scale they are `batch.boxes`, untouched.
        """
        if self.jitter == 0 and self.scale == 1:
            return Prompts(boxes=batch.boxes)
        boxes = grow_boxes(batch.boxes, self.scale)
        if self.jitter > 0:
            # SAM, appendix A: at most 20 pixels of its 1024 input.
            max_shift = self.max_jitter * batch.image_size / 1024
            boxes = jitter_boxes(boxes, self.jitter * normal(batch, seed, "box", 4), max_shift)
        return Prompts(boxes=fit_boxes(boxes, batch.object_sizes()))
