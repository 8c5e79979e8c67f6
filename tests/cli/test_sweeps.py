from sam_ft.cli.sweeps import describe_best_job

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
