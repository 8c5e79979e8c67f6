"""The rounds of an interactive segmentation: prompts, a prediction, and further prompts from its errors."""

from functools import cached_property

from sam_ft.prompts.base import Prompter
from sam_ft.prompts.ground_truth import Comparison, GroundTruth, ground_truth
from sam_ft.types import Batch, Prediction


class InteractiveSession:
    """State of the rounds for the objects of a batch; a prompter of one round has a session of one.

    prompts: of the present round, which counts from 0
    """

    def __init__(self, prompter: Prompter, batch: Batch, seed: int) -> None:
        self.prompter = prompter
        self.batch = batch
        self.seed = seed
        self.round = 0
        self.prompts = prompter(batch, seed)

    @cached_property
    def gt(self) -> GroundTruth:
        return ground_truth(self.batch)

    @property
    def is_last_round(self) -> bool:
        return self.round == self.prompter.rounds - 1

    def step(self, prediction: Prediction, comparison: Comparison) -> None:
        """Makes the prompts of the next round from the prediction of this one; prediction: C = 1."""
        self.round += 1
        if self.prompter.detach:
            prediction = Prediction(prediction.logits.detach(), prediction.pred_iou.detach())
        self.prompts = self.prompter.next(self.batch, self.seed, self.round, self.prompts, prediction, comparison)
