import pytest
import torch
from torch import nn

from sam_ft.prompts import Box
from sam_ft.training.ema import Ema
from sam_ft.training.optim import adamw
from sam_ft.training.step import train_step
from tests.support.steps import batch_of, learning_task


def number(value):
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def set_to(model, value):
    with torch.no_grad():
        model.weight.fill_(value)


def test_the_average_follows_the_weights_after_a_warm_up():
    model = number(0.0)
    ema = Ema(model, 0.5)
    set_to(model, 11.0)
    ema.update(1)  # decay 2 / 11
    assert ema.averages["weight"].item() == pytest.approx(9.0)
    set_to(model, 12.0)
    ema.update(2)  # decay 3 / 12
    assert ema.averages["weight"].item() == pytest.approx(9 / 4 + 12 * 3 / 4)
    ema.update(1000)  # decay 0.5, not 1001 / 1010
    assert ema.averages["weight"].item() == pytest.approx((11.25 + 12) / 2)
    assert model.weight.item() == 12.0


def test_the_model_has_the_average_within_the_context_only_and_also_after_an_error():
    model = number(0.0)
    ema = Ema(model, 0.9)
    set_to(model, 0.1)
    ema.update(1)
    own, before = model.weight, model.weight.detach().clone()
    seen = []

    def interrupted():
        with ema.applied():
            seen.append((model.weight, model.weight.detach().clone()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert seen[0][0] is own
    assert torch.equal(seen[0][1], ema.averages["weight"])
    assert not torch.equal(seen[0][1], before)
    assert torch.equal(model.weight, before)
    assert model.weight is own


def test_without_a_decay_nothing_is_kept_and_nothing_changes():
    model = number(3.0)
    ema = Ema(model, None)
    ema.update(1)
    with ema.applied():
        assert model.weight.item() == 3.0
    assert ema.averages == {}


def test_only_trained_parameters_are_averaged_and_training_goes_on_as_without():
    results = []
    for decay in (None, 0.9):
        task = learning_task()
        optimizer, ema = adamw(task.model, lr=0.01), Ema(task.model, decay)
        for step in range(3):
            train_step(task, [batch_of([1])], Box(jitter=0.1), step, optimizer, 1.0)
            ema.update(step + 1)
            with ema.applied():
                task.encode(batch_of([1]))
        results.append(task.model.state_dict())
    assert ema.averages.keys() == {name for name, p in task.model.named_parameters() if p.requires_grad}
    assert all(name.startswith("mask_decoder.") for name in ema.averages)
    assert all(torch.equal(tensor, results[1][name]) for name, tensor in results[0].items())
