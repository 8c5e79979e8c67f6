from sam_ft.report.sweep import describe_best_job, read_sweep, sweep_table

SAME = ["name=losses", "epochs=2"]


def test_the_best_job_is_described_by_its_own_overrides(messages):
    jobs = [
        {"job": 0, "overrides": [*SAME, "loss=sam", "seed=1"], "best": {"iou": 0.5}},
        {"job": 1, "overrides": [*SAME, "loss=bce_iou", "seed=1"], "best": {"iou": 0.75}},
        {"job": 2, "overrides": [*SAME, "loss=sam", "seed=2"], "error": "out of memory"},
    ]
    messages.check(describe_best_job(jobs, "iou"), "3 jobs", "job 1, iou 0.7500, loss=bce_iou seed=1")


def test_a_job_of_another_monitor_is_never_the_best(messages):
    jobs = [
        {"job": 0, "overrides": ["monitor=nsd"], "best": {"iou": 0.9, "nsd": 0.9}},
        {"job": 1, "overrides": ["monitor=iou"], "best": {"iou": 0.5}},
    ]
    messages.check(describe_best_job(jobs[1:] + jobs[:1], "nsd"), "2 jobs", "job 0, nsd 0.9000, monitor=nsd")


def test_the_table_has_a_row_for_each_job_with_its_end(messages):
    jobs = [
        {"job": 2, "overrides": [*SAME, "loss=sam"], "best": {"iou": 0.5}, "best_epoch": 0, "epoch": 4, "pruned": True},
        {"job": 0, "overrides": [*SAME, "loss=tversky"], "error": "out of memory"},
        {"job": 1, "overrides": [*SAME, "loss=bce_iou"], "best": {"iou": 0.75}, "best_epoch": 9, "epoch": 9},
    ]
    table = sweep_table(jobs, "iou")
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["0", "1", "2"]
    messages.check(table, "0.5000 |     0 | pruned after epoch 4", "0.7500 |     9", "failed", "loss=bce_iou")


def test_a_damaged_line_is_no_job(tmp_path):
    path = tmp_path / "sweep.jsonl"
    path.write_text('{"job": 0, "overrides": []}\n[1]\n{"job": 1, "ov')
    assert read_sweep(path) == [{"job": 0, "overrides": []}]
    assert read_sweep(tmp_path / "gone.jsonl") == []
