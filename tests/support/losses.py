"""One object whose mask is the left column; the model gives probabilities .8 there and .5, .2 on the right."""

import torch

from sam_ft.losses import Bce, BoundaryBce, Combined, Dice, Focal, Iou, Lovasz, Tversky

PROBABILITIES = torch.tensor([[[0.8, 0.5], [0.8, 0.2]]])
LOGITS = PROBABILITIES.logit()
MASK = torch.tensor([[[True, False], [True, False]]])
ALL = torch.ones(1, 2, 2, dtype=torch.bool)
# each has the properties in test_terms.py
TERMS = [Bce(), Focal(), BoundaryBce(), Dice(), Iou(), Tversky(), Lovasz()]


def sam_loss():
    """conf/loss/sam.yaml"""
    return Combined({"focal": Focal(20.0), "dice": Dice()})


def named(value):
    return type(value).__name__
