"""One process = two processes = accumulation; the batch and its order do not matter to any object."""

import pytest
import torch

from sam_ft.adapt import Freeze, freeze_unreached
from sam_ft.data.transforms import ResizeLongestSide
from sam_ft.models import build_model
from sam_ft.prompts import Box, Clicks, Iterative, Mask, Point
from sam_ft.task import PromptedSegmentation
from sam_ft.types import collate
from sam_ft.utils.errors import ConfigError, TrainingError
from tests.support.blobs import Blobs
from tests.support.cli import torchrun
from tests.support.steps import steps
from tests.support.tiny import bce_iou, tiny_sam
from train import train_step

# 7 images of 0 to 6 objects in batches of 4: the last batch has 3, one image has none, and with 2 processes and
# micro-batches of 1 someone gets nothing at the end
COUNTS = [1, 4, 2, 0, 6, 3, 2]


def assert_same(one, other):
    assert [v["objects"] for v in one["losses"]] == [v["objects"] for v in other["losses"]]
    for mine, theirs in zip(one["losses"], other["losses"], strict=True):
        for name, value in mine.items():
            assert theirs[name] == pytest.approx(value, rel=1e-5, abs=1e-5), name
    for kind in ("gradients", "weights"):
        assert one[kind].keys() == other[kind].keys()
        for name, tensor in one[kind].items():
            torch.testing.assert_close(other[kind][name], tensor, rtol=1e-5, atol=1e-5, msg=name)
    assert other["scores"] == pytest.approx(one["scores"], abs=1e-5, nan_ok=True)


@pytest.fixture(scope="module")
def single():
    return steps("mask_decoder", None, COUNTS)


def test_accumulation_gives_the_same_losses_and_gradients(single):
    assert_same(single, steps("mask_decoder", 1, COUNTS))


def test_objects_in_chunks_give_the_same_losses_and_gradients(single):
    assert_same(single, steps("mask_decoder", None, COUNTS, chunk=3))


@pytest.fixture(scope="module")
def interactive():
    return steps("mask_decoder", None, COUNTS, prompter="iterative")


def test_rounds_of_clicks_accumulate_to_the_same_losses_and_gradients(interactive):
    assert_same(interactive, steps("mask_decoder", 1, COUNTS, prompter="iterative"))


def test_two_processes_click_as_one_does(interactive, tmp_path):
    # in the steps where no object of a process begins with a point, its heads for candidates get no gradient there
    counts = ",".join(map(str, COUNTS))
    done = torchrun(
        "-m", "tests.support.steps", str(tmp_path / "out"), "mask_decoder", "1", counts, "float32", "3", "iterative"
    )
    assert done.code == 0, done.err
    for rank in range(2):
        assert_same(interactive, torch.load(tmp_path / f"out.{rank}", weights_only=True))


def test_an_encoder_that_learns_runs_once_for_all_rounds_and_trains_as_accumulated():
    whole = steps("", None, [2, 1, 3], prompter="iterative", epochs=1)
    assert any(name.startswith("image_encoder") for name in whole["gradients"])
    assert_same(whole, steps("", 1, [2, 1, 3], prompter="iterative", epochs=1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("adapt", ["mask_decoder", "image_encoder.blocks.1"])
def test_compiled_modules_give_the_same_losses_and_gradients(adapt):
    # all of torch.compile but the machine code, which takes a CPU minutes to make
    counts = [2, 1, 3, 2]
    plain, compiled = (steps(adapt, None, counts, epochs=1, backend=b) for b in (None, "aot_eager"))
    assert_same(plain, compiled)


@pytest.mark.parametrize("micro", [0, 1])
def test_two_processes_give_the_same_losses_and_gradients(single, tmp_path, micro):
    done = torchrun(
        "-m", "tests.support.steps", str(tmp_path / "out"), "mask_decoder", str(micro), ",".join(map(str, COUNTS))
    )
    assert done.code == 0, done.err
    for rank in range(2):
        assert_same(single, torch.load(tmp_path / f"out.{rank}", weights_only=True))


def test_stored_embeddings_in_float32_train_exactly_as_fresh_ones_do(single):
    stored = steps("mask_decoder", None, COUNTS, "float32")
    assert stored["losses"] == single["losses"]
    assert stored["scores"] == single["scores"]
    assert all(torch.equal(tensor, single["weights"][name]) for name, tensor in stored["weights"].items())


def test_stored_embeddings_in_float16_train_as_fresh_ones_do_to_a_thousandth(single):
    stored = steps("mask_decoder", 1, COUNTS, "float16")
    losses = [[step["loss"] for step in result["losses"]] for result in (single, stored)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)
    assert stored["scores"] == pytest.approx(single["scores"], abs=1e-3, nan_ok=True)


def test_two_processes_train_in_chunks_on_stored_embeddings_as_one_does_on_fresh_ones(single, tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_FT_HOME", str(tmp_path / "home"))
    counts = ",".join(map(str, COUNTS))
    done = torchrun("-m", "tests.support.steps", str(tmp_path / "out"), "mask_decoder", "0", counts, "float32", "2")
    assert done.code == 0, done.err
    assert len(list(tmp_path.glob("home/features/*/*.safetensors"))) > len(COUNTS)  # several views of each
    for rank in range(2):
        assert_same(single, torch.load(tmp_path / f"out.{rank}", weights_only=True))


@pytest.mark.slow
def test_two_processes_train_the_encoder_as_one_does(tmp_path):
    # an image count of 1 leaves the second process without any
    done = torchrun("-m", "tests.support.steps", str(tmp_path / "out"), "", "0", "3")
    assert done.code == 0, done.err
    single = steps("", None, [3])
    assert any(name.startswith("image_encoder") for name in single["gradients"])
    for rank in range(2):
        assert_same(single, torch.load(tmp_path / f"out.{rank}", weights_only=True))


def batch_of(indices, counts=COUNTS, side=64):
    resize = ResizeLongestSide(side)
    return collate([resize(Blobs(counts)[index]) for index in indices], side)


def trainable(adapt=("mask_decoder.*",)):
    model = tiny_sam()
    Freeze(adapt)(model)
    freeze_unreached(model, Box.asks)
    return PromptedSegmentation(model, bce_iou())


def losses_of(task, batch, prompter=None, seed=7):
    passes = task.passes(batch, prompter or Box(jitter=0.1), seed)
    return torch.cat([task(*given)["loss"] for given in passes])


def test_a_batch_of_two_equals_two_batches_of_one():
    task = trainable()
    together = losses_of(task, batch_of([1, 4]))
    alone = torch.cat([losses_of(task, batch_of([index])) for index in (1, 4)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_no_graph_is_kept_for_a_frozen_encoder():
    task = trainable()
    assert not task.encode(batch_of([0])).embedding.requires_grad
    assert trainable(["*"]).encode(batch_of([0])).embedding.requires_grad


def test_a_batch_without_any_object_trains_nothing_and_breaks_nothing():
    task = trainable()
    before = {name: p.clone() for name, p in task.named_parameters()}
    optimizer = torch.optim.SGD([p for p in task.parameters() if p.requires_grad], lr=1.0)
    values = train_step(task, [batch_of([3])], Box(), 0, optimizer, 1.0)
    assert values == {"objects": 0}
    assert all(torch.equal(p, before[name]) for name, p in task.named_parameters())


@pytest.mark.parametrize(
    "prompter",
    [Box(), Point(), Point(2, 1), Mask(), Clicks(rounds=1), Clicks(Box(), rounds=3), Iterative(rounds=6)],
    ids=lambda prompter: f"{type(prompter).__name__}-{'-'.join(prompter.asks)}",
)
def test_what_prompts_reach_is_what_they_say(prompter):
    model = tiny_sam()
    Freeze(["mask_decoder.*", "prompt_encoder.*"])(model)
    frozen = set(freeze_unreached(model, prompter.asks))
    task = PromptedSegmentation(model, bce_iou())
    model.requires_grad_(True)
    model.image_encoder.requires_grad_(False)
    for given in task.passes(batch_of([1, 4]), prompter, 0):
        task(*given)["loss"].sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if not n.startswith("image_encoder")}
    assert not [
        name for name, gradient in gradients.items() if name in frozen and gradient is not None and gradient.any()
    ]
    assert not [name for name, gradient in gradients.items() if name not in frozen and gradient is None]


def test_prompts_that_reach_nothing_of_what_is_to_learn_are_refused():
    model = tiny_sam()
    Freeze(["prompt_encoder.mask_downscaling.*"])(model)
    with pytest.raises(ConfigError, match=r"mask_downscaling.*train_prompt"):
        freeze_unreached(model, Box.asks)


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_image():
    task = trainable()
    before = {name: p.clone() for name, p in task.named_parameters()}
    optimizer = torch.optim.SGD([p for p in task.parameters() if p.requires_grad], lr=1.0)

    def poisoned(prediction, masks, valid):
        losses = bce_iou()(prediction, masks, valid)
        losses["loss"] = losses["loss"] * torch.where(torch.arange(len(masks)) == 4, torch.nan, 1.0)
        return losses

    task.loss = poisoned
    with pytest.raises(TrainingError, match=r"not a finite number.*blobs_1") as raised:
        train_step(task, [batch_of([0, 1, 2])], Box(), 0, optimizer, 1.0)
    assert "blobs_2" not in str(raised.value)
    assert all(torch.equal(p, before[name]) for name, p in task.named_parameters())


@pytest.mark.slow
def test_a_loss_that_is_no_number_on_one_process_stops_both():
    done = torchrun("-m", "tests.support.poisoned")
    assert done.code != 0
    assert done.out.count("weights untouched") == 2
    for rank in range(2):
        assert f"[process {rank}] error: the loss or its gradient is not a finite number" in done.err
    assert "Images of this batch: blobs_2." in done.err  # the second process's image, not the first one's


@pytest.mark.parametrize("adapt", ["mask_decoder.*", "*"])
def test_batchnorm_statistics_do_not_move_in_training(adapt):
    model = build_model("lite_medsam", checkpoint=None, image_size=64)
    Freeze([adapt])(model)
    freeze_unreached(model, Box.asks)
    task = PromptedSegmentation(model, bce_iou())
    statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert any(name.endswith("running_mean") for name in statistics)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    before = next(model.mask_decoder.parameters()).clone()
    train_step(task, [batch_of([0, 1])], Box(), 0, optimizer, 1.0)
    assert not torch.equal(next(model.mask_decoder.parameters()), before)
    assert all(torch.equal(buffer, statistics[name]) for name, buffer in model.named_buffers())


def test_every_image_is_validated_once_whatever_the_number_of_processes(single):
    assert single["scores"]["objects"] == sum(COUNTS)
    assert single["scores"]["images"] == sum(count > 0 for count in COUNTS)
