import pytest

from sam_ft.data.sources.survey import Survey
from sam_ft.data.splits import add_empty_images, open_split, open_splits, survey_splits, tile_splits
from sam_ft.utils.errors import DataError
from tests.support.blobs import Blobs


class Surveyed(Blobs):
    """A split whose survey finds these names bad."""

    def __init__(self, counts, bad=()):
        super().__init__(counts)
        self.bad = set(bad)

    def survey(self):
        kept = [(name, count) for name, count in zip(self.names, self.counts, strict=True) if name not in self.bad]
        return Survey(
            images=len(kept),
            objects=sum(count for _, count in kept),
            empty=[name for name, count in kept if not count],
            lossy=0,
            bad=sorted(self.bad),
        )

    def without(self, names):
        kept = [index for index, name in enumerate(self.names) if name not in names]
        split = Surveyed([self.counts[index] for index in kept])
        split.names = [self.names[index] for index in kept]
        return split


class Data:
    def __init__(self, **splits):
        self.splits = splits

    def split(self, name):
        if isinstance(self.splits[name], Exception):
            raise self.splits[name]
        return self.splits[name]


def test_images_without_objects_are_validated_and_not_trained_on():
    train, val, trainable, *_ = survey_splits(*open_splits(Data(train=Surveyed([2, 0, 1, 0, 3]), val=Surveyed([1, 0]))))
    assert (len(train), len(val)) == (5, 2)
    assert trainable == [0, 2, 4]


def test_tiles_without_objects_are_validated_and_not_trained_on():
    splits = survey_splits(*open_splits(Data(train=Surveyed([1, 2]), val=Surveyed([1, 0]))))
    assert tile_splits(splits, None, 64, False) == (splits, 72)
    (train, val, trainable, *_), side = tile_splits(splits, 32, 64, False)
    assert side == 32
    assert trainable == [index for index in range(len(train)) if len(train[index].masks)]
    assert 0 < len(trainable) < len(train)
    assert sum(len(val[index].masks) for index in range(len(val))) == 1  # once
    (whole, _, trainable, *_), side = tile_splits(splits, "auto", 64, False)
    assert (whole.names, trainable, side) == (["blobs_0", "blobs_1"], [0, 1], 72)


def test_images_without_objects_train_a_head_at_most_one_for_three():
    splits = survey_splits(*open_splits(Data(train=Surveyed([1, 0, 2, 0, 1, 0]), val=Surveyed([1]))))
    images = add_empty_images(splits).train_images
    assert len(images) == 4
    assert {0, 2, 4} < {*images}
    assert images == sorted(images) == add_empty_images(splits).train_images


def test_bad_images_are_left_out_of_both_splits():
    data = Data(train=Surveyed([2, 0, 1, 3], bad=["blobs_0"]), val=Surveyed([1, 4], bad=["blobs_1"]))
    train, val, trainable, *_ = survey_splits(*open_splits(data))
    assert train.names == ["blobs_1", "blobs_2", "blobs_3"]
    assert trainable == [1, 2]  # positions in the split without the bad image
    assert val.names == ["blobs_0"]
    assert open_split(data, "val").names == ["blobs_0"]


def test_the_problems_of_both_splits_are_listed_together(messages):
    data = Data(train=DataError("a.png: no mask"), val=DataError("b.png: no mask"))
    with messages.raises(DataError, "a.png", "b.png"):
        survey_splits(*open_splits(data))


def test_a_problem_of_both_splits_is_listed_once():
    data = Data(train=DataError("the folder is empty"), val=DataError("the folder is empty"))
    with pytest.raises(DataError) as caught:
        survey_splits(*open_splits(data))
    assert str(caught.value).count("the folder is empty") == 1


def test_splits_without_any_object_are_refused(messages):
    with messages.raises(DataError, "the train images", "the val images"):
        survey_splits(*open_splits(Data(train=Surveyed([0, 0]), val=Surveyed([0]))))
    with messages.raises(DataError, "the val images"):
        open_split(Data(val=Surveyed([0])), "val")


def test_the_log_counts_images_and_objects(caplog, messages):
    with caplog.at_level("INFO", logger="sam_ft"):
        survey_splits(*open_splits(Data(train=Surveyed([2, 0]), val=Surveyed([1]))))
    messages.check("\n".join(caplog.messages))


def test_names_that_occur_twice_are_refused(messages):
    train = Surveyed([2, 1, 3])
    train.names[2] = train.names[0]  # its prompts, and the mean over its objects, would be those of another image
    with messages.raises(DataError, "blobs_0"):
        survey_splits(*open_splits(Data(train=train, val=Surveyed([1]))))
