"""One process = two processes = accumulation; the batch and its order do not matter to any object."""

import pytest
import torch

from sam_ft.prompts import Box
from sam_ft.training.step import train_step
from tests.support.cli import torchrun
from tests.support.learning import ADAPTS, BUILDS, CASES, LEARNING, each
from tests.support.steps import COUNTS, batch_of, learning_task, steps


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


def test_a_head_leaves_the_steps_of_the_decoder_as_they_are(single):
    with_head = steps("mask_decoder", None, COUNTS, "float32", head=True)
    assert [{**losses, "head": 0} for losses in single["losses"]] == [{**v, "head": 0} for v in with_head["losses"]]
    assert all(torch.equal(with_head["weights"][name], weight) for name, weight in single["weights"].items())
    assert with_head["losses"][0]["head"] != with_head["losses"][-1]["head"]


@pytest.mark.slow
def test_a_head_and_the_encoder_under_it_train_as_whole_batches_in_accumulation_and_in_two_processes(two_processes):
    whole = steps("image_encoder.blocks.1", None, COUNTS, head=True)
    alone = steps("image_encoder.blocks.1", None, COUNTS)
    name = "image_encoder.blocks.1.attn.qkv.weight"
    assert not torch.equal(whole["gradients"][name], alone["gradients"][name])  # the head's loss reaches the encoder
    assert_same(whole, steps("image_encoder.blocks.1", 1, COUNTS, chunk=2, head=True))
    for result in two_processes("head"):
        assert_same(whole, result)


@pytest.fixture(scope="module")
def interactive():
    return steps("mask_decoder", None, COUNTS, epochs=1, prompter="iterative")  # an object takes 4 rounds


@pytest.mark.slow
def test_rounds_of_clicks_accumulate_to_the_same_losses_and_gradients(interactive):
    assert_same(interactive, steps("mask_decoder", 1, COUNTS, epochs=1, prompter="iterative"))


def test_two_processes_take_the_same_clicks_as_one(interactive, two_processes):
    for result in two_processes("clicks"):
        assert_same(interactive, result)


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


@pytest.mark.parametrize("job", ["whole batches", "accumulated"])
def test_two_processes_give_the_same_losses_and_gradients(single, two_processes, job):
    for result in two_processes(job):
        assert_same(single, result)


def test_cached_embeddings_in_float32_train_exactly_as_fresh_ones_do(single):
    cached = steps("mask_decoder", None, COUNTS, "float32")
    assert cached["losses"] == single["losses"]
    assert cached["scores"] == single["scores"]
    assert all(torch.equal(tensor, single["weights"][name]) for name, tensor in cached["weights"].items())


def test_cached_embeddings_in_float16_train_as_fresh_ones_do_to_a_thousandth(single):
    cached = steps("mask_decoder", 1, COUNTS, "float16")
    losses = [[step["loss"] for step in result["losses"]] for result in (single, cached)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)
    assert cached["scores"] == pytest.approx(single["scores"], abs=1e-3, nan_ok=True)


# lite_medsam takes twice as long as vit_t, whose blocks are the same
@each(CASES, slow=[case for case in CASES if case[0] == "lite_medsam" and case[1] != "last stages"])
@pytest.mark.parametrize("views", [None, 2])
def test_a_cached_prefix_of_each_encoder_and_cut_gives_the_losses_of_a_fresh_one(
    encoder, adapt, views, monkeypatch, tmp_path
):
    monkeypatch.setenv("SAM_FT_HOME", str(tmp_path))
    fresh, exact, rounded = (
        steps(ADAPTS[adapt], None, [2, 1], dtype, views=views, flips=True, build=BUILDS[encoder])
        for dtype in (None, "float32", "float16")
    )
    assert exact["losses"] == fresh["losses"]
    assert exact["scores"] == fresh["scores"]
    assert all(torch.equal(exact["weights"][name], weight) for name, weight in fresh["weights"].items())
    for one, other in zip(fresh["losses"], rounded["losses"], strict=True):
        assert other["loss"] == pytest.approx(one["loss"], abs=1e-3)
    cached = len(list(tmp_path.glob("embeddings/*/*.safetensors")))
    assert cached == 0 if adapt == "full" else cached > 2 * 2  # in two formats, and not only the images as they are


@each(LEARNING)
def test_two_processes_accumulation_and_chunks_train_a_part_of_an_encoder_as_whole_batches(
    encoder, adapt, two_processes
):
    whole = steps(ADAPTS[adapt], None, [3, 2, 1], build=BUILDS[encoder])
    assert any(name.startswith("image_encoder") and gradient.any() for name, gradient in whole["gradients"].items())
    assert_same(whole, steps(ADAPTS[adapt], 1, [3, 2, 1], chunk=2, build=BUILDS[encoder]))
    for result in two_processes(f"{encoder}, {adapt}"):
        assert_same(whole, result)


def test_two_processes_train_in_chunks_on_cached_embeddings_as_one_does_on_fresh_ones(single, two_processes):
    for result in two_processes("cached chunks"):
        assert_same(single, result)
        assert result["cached"] > len(COUNTS)  # several views of each


def test_two_processes_train_the_encoder_in_chunks_as_one_does_in_whole_batches(two_processes):
    single = steps("", None, COUNTS, epochs=1, prompter="iterative")
    for result in two_processes("encoder in chunks"):
        assert_same(single, result)


def test_two_processes_train_the_encoder_as_one_does(two_processes):
    single = steps("", None, [3])
    assert any(name.startswith("image_encoder") for name in single["gradients"])
    for result in two_processes("encoder"):
        assert_same(single, result)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_process_stops_both(messages):
    done = torchrun("-m", "tests.support.poisoned")
    assert done.code != 0
    assert done.out.count("weights untouched") == 2
    # Both find it, name the second process's image, not the first one's, and one of them prints it.
    (line,) = (line for line in done.err.splitlines() if "] error: " in line)
    messages.check(line.partition("] ")[2], "blobs_2")
    assert "blobs_1" not in done.err


@each([case for case in CASES if case[0] != "vit"])
def test_batchnorm_statistics_do_not_move_in_training(encoder, adapt):
    task = learning_task(ADAPTS[adapt], build=BUILDS[encoder])
    model = task.model
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
