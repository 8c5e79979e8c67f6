import pytest

from sam_ft.report.summary import training_summary

SCORES = {"iou": 0.5, "objects": 3, "images": 2}
BETTER = {**SCORES, "iou": 0.75}


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "best.safetensors"
    path.write_bytes(bytes(1_500_000))
    return path


def test_the_summary_has_the_change_the_best_epoch_and_the_file(checkpoint):
    text = training_summary({"epoch": 4, "best_epoch": 3, "zero_shot": SCORES, "best": BETTER}, "iou", checkpoint)
    assert (
        "IoU (mean over objects) |    0.5000 | 0.7500 | +0.2500\n3 objects in 2 images\n\nbest epoch: 3 of 4\n" in text
    )
    assert f"\ncheckpoint: {checkpoint} (1.5 MB, partial: loads on top of the base checkpoint)\n" in text


def test_the_summary_names_the_mix(checkpoint):
    progress = {"epoch": 4, "best_epoch": 3, "mix": 0.5, "zero_shot": SCORES, "best": BETTER}
    assert "\nbest epoch: 3 of 4, mixed with zero-shot: mix=0.5\n" in training_summary(progress, "iou", checkpoint)
    progress["mix"] = 1.0  # the best epoch itself
    assert "\nbest epoch: 3 of 4, better than each mix with zero-shot\n" in training_summary(
        progress, "iou", checkpoint
    )


def test_the_summary_names_the_mix_of_an_epoch_that_did_not_beat_zero_shot(checkpoint):
    progress = {"epoch": 4, "best_epoch": 0, "mix": 0.25, "mix_epoch": 4, "zero_shot": SCORES, "best": BETTER}
    text = training_summary(progress, "iou", checkpoint)
    assert "No epoch improved iou over zero-shot" in text
    assert "mix=0.25 of epoch 4" in text
    assert "before training" not in text


def test_classes_have_a_table_too(checkpoint):
    cells = {
        "zero_shot_classes": {"cell": {"objects": 3, "iou": 0.5}},
        "best_classes": {"cell": {"objects": 3, "iou": 0.75}},
    }
    text = training_summary(
        {"epoch": 1, "best_epoch": 1, "zero_shot": SCORES, "best": BETTER, **cells}, "iou", checkpoint
    )
    assert "  cell |       3 |        0.5000 |    0.7500 | +0.2500\n\nbest epoch: 1 of 1\n" in text


def test_a_run_without_improvement_says_so_and_suggests_settings(checkpoint):
    text = training_summary({"epoch": 4, "best_epoch": 0, "zero_shot": SCORES, "best": SCORES}, "dice", checkpoint)
    assert "No epoch improved dice over zero-shot" in text
    assert "Try a lower optimizer.lr" in text


def with_head(best_epoch=3, msa=0.4):
    found = dict.fromkeys(("sa50", "sa75", "ap", "ap50", "ap75", "masks_per_image"), 0.5)
    return {
        "epoch": 4,
        "best_epoch": best_epoch,
        "zero_shot": {**SCORES, **found, "msa": 0.0},
        "best": {**BETTER, **found, "msa": 0.3},
        "head_scores": {**found, "msa": msa} if best_epoch else {},
        "baseline": {**found, "msa": 0.375} if best_epoch else {},
    }


def test_the_scores_of_a_head_stand_beside_the_baseline_and_not_beside_zero_shot(checkpoint):
    text = training_summary(with_head(), "iou", checkpoint)
    prompted, without_prompts = text.split("3 objects in 2 images")
    assert "mSA" not in prompted
    assert "|           0.3750 | 0.4000 | +0.0250\n" in without_prompts


def test_a_head_that_is_no_better_than_the_baseline_is_reported(messages, checkpoint):
    above, below = (training_summary(with_head(msa=msa), "iou", checkpoint) for msa in (0.4, 0.375))
    messages.line(below, "Otsu's")
    assert "Otsu's" not in above


def test_a_run_without_a_head_names_the_setting_that_finds_objects(messages, checkpoint):
    progress = {"epoch": 4, "best_epoch": 3, "zero_shot": SCORES, "best": BETTER}
    messages.line(training_summary(progress, "iou", checkpoint), "head=instances")
    assert "head=instances" not in training_summary(with_head(), "iou", checkpoint)


def test_a_head_that_was_not_kept_is_reported(messages, checkpoint):
    messages.line(training_summary(with_head(best_epoch=0), "iou", checkpoint), "monitor=msa")
