import json

import pytest

from sam_ft.cli.pruning import below_median, scores_by_epoch
from tests.conftest import of
from tests.support.cli import SMALL

# running averages 0.5, 0.6, 0.3: their median is 0.5
OTHERS = [[0.4, 0.6], [0.6, 0.6], [0.1, 0.5]]


@pytest.mark.parametrize(("best", "pruned"), [(0.49, True), (0.5, False), (0.55, False)])
def test_a_job_stops_strictly_below_the_median_of_the_running_averages(best, pruned):
    assert below_median(best, OTHERS, least=3) == pruned


def test_the_median_of_an_even_number_of_jobs_lies_between_the_middle_two():
    assert below_median(0.54, OTHERS[:2], least=2)  # 0.55
    assert not below_median(0.56, OTHERS[:2], least=2)


def test_too_few_other_jobs_stop_none():
    assert not below_median(0.0, OTHERS, least=4)


def test_the_scores_of_a_job_end_at_its_first_epoch_without_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [
        {"step": 0, "epoch": 0, "val/iou": 0.9},  # zero-shot
        {"step": 1, "epoch": 1, "train/loss": 1.0},
        {"step": 1, "epoch": 1, "val/iou": 0.2},
        {"step": 2, "epoch": 2, "val/iou": 0.3},
        {"step": 3, "epoch": 3, "val/iou": None},
        {"step": 4, "epoch": 4, "val/iou": 0.5},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 5, "ep')
    assert scores_by_epoch(path, "iou") == [0.2, 0.3]
    assert scores_by_epoch(path, "dice") == []


@pytest.fixture(scope="module")
def diverging(blobs, tmp_path_factory):
    """Settings of a sweep whose second job never gets better than zero-shot."""
    folder = tmp_path_factory.mktemp("sweep")
    return ["-m", *SMALL, *of(blobs), f"run_dir={folder}", "optimizer.lr=1e-4,1e-1", "epochs=3"], folder


@pytest.mark.slow
def test_a_job_behind_the_others_is_pruned_once_and_for_all(diverging, cli):
    arguments, folder = diverging
    for _ in range(2):  # the same command again trains no further
        done = cli("train.py", *arguments, "prune_after=2", "prune_jobs=1", "patience=null")
        assert done.code == 0, done.err
        jobs = [json.loads(line) for line in (folder / "sweep.jsonl").read_text().splitlines()]
        ended = {job["job"]: (job["epoch"], job["pruned"], job["best_epoch"] > 0) for job in jobs}
        assert ended == {0: (3, False, True), 1: (2, True, False)}
        assert "pruned after epoch 2" in [line for line in done.out.splitlines() if line.startswith("  1 ")][-1]
    # without pruning, the same job goes on to its end
    assert cli("train.py", *arguments, "patience=null").code == 0
    assert '"epoch": 3' in (folder / "1/metrics.jsonl").read_text()
