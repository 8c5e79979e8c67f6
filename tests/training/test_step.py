import pytest
import torch

from sam_ft.prompts import Box, Clicks, Iterative, Point
from sam_ft.training.optim import adamw
from sam_ft.training.step import read_back, split_into_passes, train_step
from sam_ft.utils.errors import TrainingError
from tests.support.learning import ADAPTS, BUILDS, LEARNING, each
from tests.support.steps import batch_of, learning_task, losses_of
from tests.support.tiny import bce_iou


@pytest.fixture
def task():
    return learning_task()


def sgd(task, lr=0.1):
    return torch.optim.SGD([p for p in task.parameters() if p.requires_grad], lr=lr)


def fused(task):
    return adamw(task.model, lr=0.01)


def weights_of(task):
    return {name: p.detach().clone() for name, p in task.named_parameters()}


def same(task, before):
    return all(torch.equal(p, before[name]) for name, p in task.named_parameters())


def poison(task, object_index=4):
    """The loss of one object of each batch is nan."""

    def poisoned(prediction, masks, valid):
        losses = bce_iou()(prediction, masks, valid)
        bad = torch.arange(len(masks)) == object_index
        losses["loss"] = losses["loss"] * torch.where(bad, torch.nan, 1.0)
        return losses

    task.loss = poisoned


def test_a_batch_of_two_equals_two_batches_of_one(task):
    together = losses_of(task, batch_of([1, 4]))
    alone = torch.cat([losses_of(task, batch_of([index])) for index in (1, 4)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_chunks_have_the_losses_of_the_whole(task):
    whole, chunks = (losses_of(task, batch_of([1, 4]), chunk=chunk) for chunk in (100, 3))
    torch.testing.assert_close(whole, chunks, rtol=1e-5, atol=1e-5)


def test_no_graph_is_kept_for_a_frozen_encoder(task):
    assert not task.encode(batch_of([0])).embedding.requires_grad
    assert learning_task("*").encode(batch_of([0])).embedding.requires_grad


def test_a_frozen_encoder_runs_once_for_all_passes(task):
    encoded = []
    task.model.image_encoder.register_forward_hook(lambda *_: encoded.append(1))
    passes = split_into_passes(task, batch_of([1, 4]), Clicks(rounds=3), 0, chunk=4).decoder
    assert len(passes) == 3 * 3  # chunks of 4, 4 and 2 objects, each with three rounds of their own
    for given in passes:
        task(given)
    assert len(encoded) == 2  # images one at a time, as on any CPU


@pytest.mark.parametrize(
    ("patterns", "prompter", "expected"),
    [
        pytest.param(["mask_decoder.*"], Box(), [(4, 1), (4, 1), (2, 1)], id="one round"),
        pytest.param(["mask_decoder.*"], Clicks(rounds=2, detach=False), [(4, None), (4, None), (2, None)], id="whole"),
        pytest.param(["*"], Clicks(rounds=2), [(4, 1)] * 4 + [(2, 1)] * 2, id="the encoder learns"),
    ],
)
def test_rounds_share_a_pass_where_gradients_connect_them(patterns, prompter, expected):
    task = learning_task(*patterns, prompter=prompter)
    passes = split_into_passes(task, batch_of([1, 4]), prompter, 0, chunk=4)
    found = [(given.session.batch.num_objects, given.num_rounds) for given in passes.decoder]
    assert found == expected
    assert passes.encoder_learns is (patterns == ["*"])


@pytest.mark.parametrize("prompter", [Box(jitter=0.1), Clicks(rounds=3)], ids=["boxes", "clicks"])
def test_the_gradient_of_an_encoder_does_not_depend_on_the_chunks(prompter):
    def gradients(chunk):
        task = learning_task("*", prompter=prompter)
        kept = {}
        optimizer = sgd(task)
        keep = optimizer.zero_grad
        optimizer.zero_grad = lambda **_: (
            kept.update({n: p.grad.clone() for n, p in task.named_parameters() if p.grad is not None}),
            keep(),
        )
        train_step(task, [batch_of([1]), batch_of([4])], prompter, 5, optimizer, 1e9, chunk)
        return kept

    whole, parts = gradients(100), gradients(3)
    assert any(name.startswith("model.image_encoder") and grad.any() for name, grad in whole.items())
    for name, grad in whole.items():
        torch.testing.assert_close(parts[name], grad, rtol=1e-4, atol=1e-6, msg=name)


def test_losses_of_all_passes_are_the_mean_over_objects_and_rounds(task):
    prompter = Clicks(rounds=3)
    whole = losses_of(task, batch_of([1, 4]), prompter, seed=5, chunk=100)
    (found,) = read_back([train_step(task, [batch_of([1]), batch_of([4])], prompter, 5, sgd(task), 1.0, chunk=3)])
    assert found["objects"] == 10
    assert found["loss"] == pytest.approx(whole.sum().item() / 10, rel=1e-5)
    assert set(found) == {"loss", "bce", "soft_iou", "iou_head", "grad_norm", "objects"}


def test_the_gradient_is_clipped_and_its_norm_before_that_is_returned(task):
    before = weights_of(task)
    (found,) = read_back([train_step(task, [batch_of([1, 4])], Box(), 0, sgd(task, lr=1.0), clip_norm=1e-3)])
    moved = torch.stack([(p - before[name]).norm() for name, p in task.named_parameters()]).norm()
    assert found["grad_norm"] > 0.01
    assert moved.item() == pytest.approx(1e-3, rel=1e-2)


def test_parameters_without_a_gradient_take_a_zero_step(task):
    task.model.mask_decoder.requires_grad_(True)  # also the heads that a box never reaches
    optimizer = fused(task)
    train_step(task, [batch_of([1])], Box(), 0, optimizer, 1.0)
    assert all(optimizer.state[p]["step"] == 1 for p in task.model.mask_decoder.parameters())
    unreached = task.model.mask_decoder.output_hypernetworks_mlps[2].parameters()
    assert not any(optimizer.state[p]["exp_avg"].any() for p in unreached)


@pytest.mark.parametrize("make", [sgd, fused])
@pytest.mark.parametrize("prompter", [Box(), Point(2, 1), Iterative(rounds=3)], ids=["box", "point", "iterative"])
def test_a_batch_without_any_object_trains_nothing_and_breaks_nothing(task, make, prompter):
    before = weights_of(task)
    assert train_step(task, [batch_of([3])], prompter, 0, make(task), 1.0) is None
    assert train_step(task, [batch_of([])], prompter, 0, make(task), 1.0) is None
    assert same(task, before)


def test_micro_batches_without_objects_add_nothing():
    def losses(micro_batches):
        task = learning_task()
        return next(read_back([train_step(task, micro_batches, Box(), 0, sgd(task), 1.0)]))

    assert losses([batch_of([3]), batch_of([0]), batch_of([])]) == losses([batch_of([0])])


def test_sgd_refuses_a_loss_that_is_not_finite_before_its_step(task, messages):
    before = weights_of(task)
    poison(task)
    with messages.raises(TrainingError, "blobs_1") as caught:
        train_step(task, [batch_of([0, 1, 2])], Box(), 0, sgd(task, lr=1.0), 1.0)
    assert "blobs_2" not in str(caught.value)
    assert same(task, before)


def test_a_fused_optimizer_skips_a_loss_that_is_not_finite_and_reading_back_refuses_it(task, messages):
    before = weights_of(task)
    optimizer = fused(task)
    good = train_step(task, [batch_of([0, 1, 2])], Box(), 0, optimizer, 1.0)
    assert not same(task, before)
    before, moments = weights_of(task), moments_of(optimizer)
    poison(task)
    bad = train_step(task, [batch_of([0, 1, 2])], Box(), 1, optimizer, 1.0)
    assert same(task, before)
    assert all(torch.equal(tensor, moments[key]) for key, tensor in moments_of(optimizer).items())
    assert len(list(read_back([good]))) == 1
    with messages.raises(TrainingError, "blobs_1") as caught:
        list(read_back([good, bad]))
    assert "blobs_2" not in str(caught.value)


def moments_of(optimizer):
    return {(p, name): tensor.clone() for p, state in optimizer.state.items() for name, tensor in state.items()}


def test_after_a_skipped_step_a_fused_optimizer_goes_on(task):
    optimizer = fused(task)
    loss = task.loss
    poison(task)
    train_step(task, [batch_of([1, 4])], Box(), 0, optimizer, 1.0)
    before = weights_of(task)
    task.loss = loss
    list(read_back([train_step(task, [batch_of([1, 4])], Box(), 0, optimizer, 1.0)]))
    assert not same(task, before)


def test_a_gradient_that_is_not_finite_names_all_images_of_the_step(task, messages):
    task.model.mask_decoder.iou_token.weight.register_hook(lambda gradient: gradient * torch.inf)
    with messages.raises(TrainingError, "blobs_0, blobs_1"):
        train_step(task, [batch_of([0]), batch_of([1])], Box(), 0, sgd(task), 1.0)


def test_results_of_several_steps_leave_the_device_together(task):
    results = [train_step(task, [batch_of([index])], Box(), 0, sgd(task), 1.0) for index in (0, 1)]
    together, alone = list(read_back(results)), [next(read_back([result])) for result in results]
    assert together == alone
    assert [found["objects"] for found in together] == [1, 4]
    assert list(read_back([])) == []


def test_a_task_without_a_loss_cannot_train(task):
    task.loss = None
    with pytest.raises(ValueError, match="no loss"):
        train_step(task, [batch_of([0])], Box(), 0, sgd(task), 1.0)


@each(LEARNING)
def test_activation_checkpointing_runs_the_suffix_twice_and_the_prefix_once(encoder, adapt):
    gradients, runs = [], []
    for checkpointing in (False, True):
        task = learning_task(ADAPTS[adapt], build=BUILDS[encoder])
        images, entered = task.model.image_encoder, []
        images.activation_checkpointing = checkpointing
        names = [unit.names[0] for unit in images.units()]
        for name in names:
            # Before and not after: the second run ends as soon as it has all that the backward pass needs.
            module = images.get_submodule(name)
            module.register_forward_pre_hook(lambda *_, name=name, entered=entered: entered.append(name))
        passes = split_into_passes(task, batch_of([1]), Box(), 0)
        for given in passes.decoder:
            task(given)["loss"].sum().backward()
        task(passes.encoder())["loss"].sum().backward()
        gradients.append({name: p.grad for name, p in images.named_parameters() if p.requires_grad})
        runs.append([entered.count(name) for name in names])
    assert runs[0] == [1] * len(names)
    assert runs[1] == [1] * task.cut + [2] * (len(names) - task.cut)
    assert any(gradient.any() for gradient in gradients[0].values())
    assert all(torch.equal(gradient, gradients[1][name]) for name, gradient in gradients[0].items())
