import json

from sam_ft.report.page.html import write_report
from tests.support.pages_of_runs import Page, write_run

SAME = ["name=losses", "data.root=/home/Doe"]
JOBS = [
    (
        [*SAME, "loss=sam", "optimizer.lr=1e-4"],
        {"zero_shot": {"iou": 0.4}, "best": {"iou": 0.5}, "best_epoch": 1, "epoch": 2},
    ),
    (
        [*SAME, "loss=bce_iou", "optimizer.lr=1e-4"],
        {"zero_shot": {"iou": 0.4}, "best": {"iou": 0.75}, "best_epoch": 2, "epoch": 2},
    ),
    ([*SAME, "loss=bce_iou", "optimizer.lr=1"], {"error": "the loss is <b>nan</b>"}),
]


def write_sweep(directory, jobs=JOBS):
    directory.mkdir(exist_ok=True)
    lines = [{"job": number, "overrides": overrides, **results} for number, (overrides, results) in enumerate(jobs)]
    (directory / "sweep.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return directory


def test_a_sweep_has_a_table_of_its_jobs_and_a_plot_for_each_setting_that_differs(messages, tmp_path):
    write_run(tmp_path / "0", rows=())
    page = Page(write_report(write_sweep(tmp_path)))
    assert page.tables == [
        [
            ["settings", "job", "iou", "epoch", "end"],
            ["loss=sam optimizer.lr=1e-4", "0", "0.5000", "1", ""],
            ["loss=bce_iou optimizer.lr=1e-4", "1", "0.7500", "2", ""],
            ["loss=bce_iou optimizer.lr=1", "2", "", "", "failed"],
        ]
    ]
    assert "iou of each job by loss" in page.texts
    assert "iou of each job by optimizer.lr" not in page.texts  # of one value where jobs have ended
    place = next(number for number, line in enumerate(page.texts) if "job 1" in line)
    messages.check("\n".join(page.texts[place : place + 3]), "job 1, iou 0.7500", "iou 0.4000", "among 2 jobs")
    assert "data.root=/home/Doe" in page.source


def test_the_paths_of_a_sweep_can_be_hidden(tmp_path):
    page = Page(write_report(write_sweep(tmp_path), names=False))
    assert "Doe" not in page.source


def test_a_sweep_of_failed_jobs_has_a_page(tmp_path):
    assert "result yet" in Page(write_report(write_sweep(tmp_path, JOBS[2:]))).verdict()


def test_a_job_is_named_with_its_sweep(tmp_path):
    page = Page(write_report(write_run(tmp_path / "losses/1", rows=())))
    assert "losses/1" in page.texts
