"""Parameters that the prompts of a run never use."""

from copy import deepcopy

import torch

from sam_ft.models import Sam
from sam_ft.models.encoders.encoder import ImageEncoder
from sam_ft.prompts import Prompter
from sam_ft.types import Batch, Features
from sam_ft.utils.errors import ConfigError


def freeze_unreached(model: Sam, prompter: Prompter) -> list[str]:
    """Freezes the trained parameters that get no gradient from any prompt which `prompter` may draw.

    They would not learn, only shrink through weight decay. A backward pass on a dummy object for each kind of prompt
    finds them. All prompts reach the image encoder, so it is left out.

    → the names of the parameters that this froze

    Raises:
        ConfigError: nothing is left to train.
    """
    reached = reached_parameters(model, prompter)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    frozen = sorted(name for name in trained - reached if not name.startswith("image_encoder."))
    if len(frozen) == len(trained):
        raise ConfigError(
            f"train_prompt reaches none of the parameters that adapt.train names ({', '.join(frozen[:4])}, ...); "
            "choose another prompt@train_prompt= or another adapt="
        )
    for name in frozen:
        model.get_parameter(name).requires_grad = False
    return frozen


def reached_parameters(model: Sam, prompter: Prompter) -> set[str]:
    """Names of the parameters outside of the image encoder that get a gradient from prompts of `prompter`."""
    # A copy, so that neither weights nor gradients of the model change.
    probe = Sam(
        ImageEncoder(),  # of no units: it is not run
        deepcopy(model.prompt_encoder),
        deepcopy(model.mask_decoder),
        model.model_type,
        model.image_size,
    ).to(model.device)
    batch = _dummy_batch(model.image_size)
    # Leaves the random numbers of the run as they are.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # a layer that starts at zero would hide those before it
        for parameter in probe.parameters():
            parameter.requires_grad = True
            parameter.data += 0.02 * torch.randn(parameter.shape).to(parameter)
        features = Features((torch.randn(1, *model.embedding_shape).to(model.device),))
        for prompts in prompter.examples(batch):
            prompts, index = prompts.to(model.device), batch.image_index.to(model.device)
            prediction = probe.decode(features, prompts, index, prompts.ambiguous)
            # Random weights of the outputs: gradients of their plain sum could cancel.
            weights = torch.randn(prediction.logits.shape).to(model.device)
            ((weights * prediction.logits).sum() + prediction.pred_iou.sum()).backward()
    return {name for name, p in probe.named_parameters() if p.grad is not None and bool(p.grad.any())}


def _dummy_batch(side: int) -> Batch:
    """One image, whose object is a square in its middle."""
    masks = torch.zeros(1, side, side, dtype=torch.bool)
    low, high = side // 4, side - side // 4
    masks[:, low:high, low:high] = True
    one = torch.zeros(1, dtype=torch.int64)
    return Batch(
        images=None,
        features=None,
        masks=masks,
        boxes=torch.tensor([[low, low, high, high]], dtype=torch.float32),
        labels=one,
        object_index=one,
        image_index=one,
        names=["dummy"],
        sizes=[(side, side)],
    )
