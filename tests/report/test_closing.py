import pytest

from sam_ft.report.closing import closing_words

SCORES = {"iou": 0.5, "objects": 3, "images": 2}
BETTER = {**SCORES, "iou": 0.75}


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "best.safetensors"
    path.write_bytes(bytes(1_500_000))
    return path


def test_the_gain_the_best_epoch_and_the_file(weights):
    words = closing_words({"epoch": 4, "best_epoch": 3, "zero_shot": SCORES, "best": BETTER}, "iou", weights)
    assert (
        "IoU (mean over objects) |    0.5000 | 0.7500 | +0.2500\n3 objects in 2 images\n\nbest epoch: 3 of 4\n" in words
    )
    assert words.endswith(f"\nweights: {weights} (1.5 MB, to go on top of the base checkpoint)")


def test_classes_have_a_table_too(weights):
    cells = {
        "zero_shot_classes": {"cell": {"objects": 3, "iou": 0.5}},
        "best_classes": {"cell": {"objects": 3, "iou": 0.75}},
    }
    words = closing_words({"epoch": 1, "best_epoch": 1, "zero_shot": SCORES, "best": BETTER, **cells}, "iou", weights)
    assert "  cell |       3 |        0.5000 |    0.7500 | +0.2500\n\nbest epoch: 1 of 1\n" in words


def test_a_training_that_did_not_help_says_so_and_what_to_try(weights):
    words = closing_words({"epoch": 4, "best_epoch": 0, "zero_shot": SCORES, "best": SCORES}, "dice", weights)
    assert "No epoch beat zero-shot on dice: fine-tuning did not help here." in words
    assert "Try a lower optimizer.lr" in words
