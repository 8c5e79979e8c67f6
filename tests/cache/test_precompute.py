import torch
from torchvision.transforms import v2

from sam_ft.cache import precompute as features
from sam_ft.cache.precompute import encode_ahead, encoder_digest
from sam_ft.cache.store import FeatureStore
from sam_ft.data.datasets import EvaluationSet, TrainingSet
from sam_ft.data.transforms import Augment, QuarterTurn
from sam_ft.task import PromptedSegmentation
from sam_ft.types import collate
from tests.support.blobs import Blobs
from tests.support.tiny import tiny_sam

COUNTS = [2, 1, 3]


class Encoder:
    """The tiny model's, counting its images."""

    def __init__(self, task):
        self.task = task
        self.images = 0

    def __call__(self, images, sizes):
        self.images += len(images)
        return self.task.encode_frozen(images, sizes)


def fresh_task(store=None, seed=0):
    return PromptedSegmentation(tiny_sam(seed).requires_grad_(False), store=store)


def ready(tmp_path, monkeypatch, counts=COUNTS, seed=0, **options):
    """A task with a store in an own folder, its evaluation set, and the encoder that counts."""
    monkeypatch.setenv("SAM_FT_HOME", str(tmp_path))
    task = fresh_task(FeatureStore(**{"dtype": "float32", **options}), seed)
    return task, EvaluationSet(Blobs(counts), 64, task.store), Encoder(task)


def ahead(dataset, encoder, views=None):
    views = [(index, 0) for index in range(len(dataset.split))] if views is None else views
    encode_ahead(dataset, views, encoder, 2, 0, "test")


def test_each_image_is_encoded_once_for_all_runs(tmp_path, monkeypatch):
    for expected in (3, 0):
        _, dataset, encoder = ready(tmp_path, monkeypatch)
        ahead(dataset, encoder)
        ahead(dataset, encoder)
        assert encoder.images == expected


def test_only_missing_images_are_encoded(tmp_path, monkeypatch):
    _, dataset, encoder = ready(tmp_path, monkeypatch)
    ahead(dataset, encoder, [(1, 0)])
    _, again, encoder = ready(tmp_path, monkeypatch)
    ahead(again, encoder)
    assert encoder.images == 2


def test_the_log_says_how_many_images_are_new_and_how_long_it_will_take(tmp_path, monkeypatch, caplog):
    _, dataset, encoder = ready(tmp_path, monkeypatch, counts=[1] * 5)
    ahead(dataset, encoder, [(1, 0)])
    _, again, encoder = ready(tmp_path, monkeypatch, counts=[1] * 5)
    caplog.clear()
    with caplog.at_level("INFO", "sam_ft"):
        ahead(again, encoder)
    assert caplog.messages == ["test: encoding 4 images that no run has encoded yet (of 5)"]
    caplog.clear()
    _, more, encoder = ready(tmp_path, monkeypatch, counts=[2] * 8)
    monkeypatch.setattr(features.time, "perf_counter", lambda: 40.0 * encoder.images)
    with caplog.at_level("INFO", "sam_ft"):
        ahead(more, encoder)  # two at once, 40 s an image
    assert caplog.messages == [
        "test: encoding 8 images that no run has encoded yet (of 8)",
        "test: encoding: 25 % done, about 04:00 left",
        "test: encoding: 50 % done, about 02:40 left",
        "test: encoding: 75 % done, about 01:20 left",
    ]


def test_other_weights_or_another_precision_never_meet_the_same_embedding(tmp_path, monkeypatch):
    model = tiny_sam()
    digest = encoder_digest(model, torch.float32)
    assert digest == encoder_digest(tiny_sam(), torch.float32)
    assert digest != encoder_digest(model, torch.bfloat16)
    with torch.no_grad():
        model.mask_decoder.iou_token.weight += 1  # not of the encoder
        assert digest == encoder_digest(model, torch.float32)
        model.image_encoder.neck[1].bias[7] += 1e-6
    assert digest != encoder_digest(model, torch.float32)
    _, dataset, encoder = ready(tmp_path, monkeypatch)
    ahead(dataset, encoder)
    _, other, encoder = ready(tmp_path, monkeypatch, seed=1)
    ahead(other, encoder)
    assert encoder.images == 3


def test_a_changed_image_is_encoded_and_a_renamed_one_is_not(tmp_path, monkeypatch):
    _, dataset, encoder = ready(tmp_path, monkeypatch)
    ahead(dataset, encoder)
    _, renamed, encoder = ready(tmp_path, monkeypatch)
    renamed.split.names = ["x", "y", "z"]
    ahead(renamed, encoder)
    assert encoder.images == 0
    _, changed, encoder = ready(tmp_path, monkeypatch, counts=[2, 1, 2])
    ahead(changed, encoder)
    assert encoder.images == 1


def test_a_batch_may_hold_stored_and_fresh_images_side_by_side(tmp_path, monkeypatch):
    task, dataset, encoder = ready(tmp_path, monkeypatch)
    ahead(dataset, encoder, [(1, 0)])
    mixed = collate([dataset.sample(index) for index in range(3)], 64)
    assert (mixed.uncached, len(mixed.images), len(mixed.cached.embedding)) == ([0, 2], 2, 1)
    plain = collate([EvaluationSet(dataset.split, 64).sample(index) for index in range(3)], 64)
    assert torch.equal(task.encode(mixed).embedding, fresh_task().encode(plain).embedding)


def test_a_stored_image_is_not_read(tmp_path, monkeypatch):
    _, dataset, encoder = ready(tmp_path, monkeypatch)
    ahead(dataset, encoder)
    annotations = [dataset.split.annotations(index) for index in range(3)]
    monkeypatch.setattr(Blobs, "annotations", lambda self, index: annotations[index])
    monkeypatch.setattr(Blobs, "__getitem__", None)
    assert all(dataset.sample(index).embedding is not None for index in range(3))


def test_a_damaged_entry_is_made_again_where_it_is_needed(tmp_path, monkeypatch, caplog):
    task, dataset, encoder = ready(tmp_path, monkeypatch)
    ahead(dataset, encoder)
    expected = task.encode(collate([dataset.sample(1)], 64)).embedding
    path = task.store._path(dataset.keys[1, 0])
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    for warnings in (1, 1):  # the second time it is whole again
        assert torch.equal(task.encode(collate([dataset.sample(1)], 64)).embedding, expected)
        assert caplog.text.count("blobs_1: its stored embedding was gone or damaged") == warnings


def test_images_without_room_in_the_store_are_encoded_each_time(tmp_path, monkeypatch):
    task, dataset, encoder = ready(tmp_path, monkeypatch, max_gb=2.5 * (256 * 16 * 4 + 256) / 1e9)
    ahead(dataset, encoder)
    assert encoder.images == 2
    batch = collate([dataset.sample(index) for index in range(3)], 64)
    assert len(batch.uncached) == 1
    plain = collate([EvaluationSet(dataset.split, 64).sample(index) for index in range(3)], 64)
    assert torch.equal(task.encode(batch).embedding, task.encode(plain).embedding)
    assert len(list((tmp_path / "features").glob("*/*.safetensors"))) == 2


def test_images_without_room_are_looked_at_once(tmp_path, monkeypatch, caplog):
    _, dataset, encoder = ready(tmp_path, monkeypatch, max_gb=1e-9)
    for _ in range(2):
        ahead(dataset, encoder)
    assert encoder.images == 0
    assert caplog.text.count("has room for 0 of 3 new embeddings") == 1


def test_an_image_that_changed_since_is_not_stored_under_the_old_one_s_key(tmp_path, monkeypatch):
    task, dataset, encoder = ready(tmp_path, monkeypatch)
    ahead(dataset, encoder)
    path = task.store._path(dataset.keys[0, 0])
    path.unlink()
    dataset.split.counts = [3, 1, 3]
    task.encode(collate([dataset.sample(0)], 64))
    assert not path.exists()


def test_stored_views_are_those_of_the_image_and_the_masks_move_along(tmp_path, monkeypatch):
    task, _, encoder = ready(tmp_path, monkeypatch)
    for store in (None, task.store):
        dataset = TrainingSet(Blobs(COUNTS), Augment([]), 64, None, 0, store, views=8)
        draws = [dataset.draw(epoch, image) for epoch in range(40) for image in range(3)]
        assert {draw.view for draw in draws if draw.image == 1} == set(range(8))
        ahead(dataset, encoder, [(draw.image, draw.view) for draw in draws])
        if store is None:
            plain = [dataset[draw] for draw in draws]
    assert encoder.images == 24
    for draw, expected in zip(draws, plain, strict=True):
        sample = dataset[dataset.draw(draw.epoch, draw.image)]
        assert torch.equal(sample.masks, expected.masks)
        assert torch.equal(sample.boxes, expected.boxes)
        assert sample.input_size == expected.input_size
        fresh = task.encode_frozen(*_padded(expected)).embedding[0]
        assert torch.equal(sample.embedding, fresh)


def _padded(sample):
    image = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    image[0, :, : sample.input_size[0], : sample.input_size[1]] = sample.image
    return image, [sample.input_size]


def test_fewer_views_always_hold_the_image_itself_and_differ_between_names():
    dataset = TrainingSet(Blobs([1] * 30), Augment([]), 64, None, 0, views=2)
    views = [{dataset.draw(epoch, image).view for epoch in range(30)} for image in range(30)]
    assert all(0 in of_image and len(of_image) == 2 for of_image in views)
    assert set.union(*views) == set(range(8))


def test_what_flips_draw_is_what_torchvision_makes_of_image_and_masks():
    flips = [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(), QuarterTurn()]
    augment, sample = Augment(flips), Blobs([3])[0]
    views = set()
    for seed in range(60):
        image, masks = augment._apply(sample.image, sample.masks.view(torch.uint8), seed)
        moved = augment(sample, seed)
        assert torch.equal(moved.image, image)
        assert torch.equal(moved.masks, masks > 0)
        views.add(augment.view(seed))
    assert views == set(range(8))
