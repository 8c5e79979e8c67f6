from sam_ft.report.tables import class_map_table, group_table, mix_table, prompt_table, score_table

ZERO_SHOT = {"iou": 0.5, "hd95": 7.25, "pred_iou_spearman": float("nan"), "hits": 0.1, "objects": 9, "images": 2}
TUNED = {"iou": 0.75, "hd95": 3.0, "pred_iou_spearman": 0.5, "hits": 0.2, "objects": 9, "images": 2}


def cells(table):
    return [[cell.strip() for cell in line.split("|")] for line in table.splitlines() if "|" in line]


def test_scores_have_a_row_each_with_the_change():
    table = score_table(ZERO_SHOT, TUNED)
    assert cells(table) == [
        ["", "zero-shot", "tuned", "change"],
        ["IoU (mean over objects)", "0.5000", "0.7500", "+0.2500"],
        ["HD95 in pixels (lower is better)", "7.2500", "3.0000", "-4.2500"],
        ["Spearman correlation of pred_iou and IoU", "nan", "0.5000", "nan"],
        ["hits", "0.1000", "0.2000", "+0.1000"],
    ]
    assert table.splitlines()[-1] == "9 objects in 2 images"
    assert score_table({**ZERO_SHOT, "pred_iou_spearman": None}, TUNED) == table  # as read from JSON


def test_zero_shot_only_has_one_column():
    assert cells(score_table(ZERO_SHOT))[:2] == [["", "zero-shot"], ["IoU (mean over objects)", "0.5000"]]


def test_groups_have_a_row_each_and_those_without_objects_are_listed_below():
    zero_shot = {
        "class": {
            "cell": {"objects": 3, "iou": 0.25, "dice": 0.4},
            "debris": {"objects": 0, "iou": None, "dice": None},
        },
        "size": {"small": {"objects": 3, "iou": 0.25, "dice": 0.4}, "large": {"objects": 0, "iou": None, "dice": None}},
    }
    better = {"objects": 3, "iou": 0.5, "dice": 0.6}
    tuned = {kind: {**groups, next(iter(groups)): better} for kind, groups in zero_shot.items()}
    table = group_table(zero_shot, tuned)
    assert cells(table) == [
        ["", "objects", "IoU zero-shot", "IoU tuned", "change"],
        ["cell", "3", "0.2500", "0.5000", "+0.2500"],
        ["small (< 32² px)", "3", "0.2500", "0.5000", "+0.2500"],
    ]
    assert table.splitlines()[-1] == "  absent: debris, large"
    assert cells(group_table(zero_shot))[1:] == [["cell", "3", "0.2500"], ["small (< 32² px)", "3", "0.2500"]]
    assert "absent" not in group_table({"class": {"cell": better}})


def test_many_absent_classes_take_few_lines():
    nothing = {"objects": 0, "iou": None, "dice": None}
    lines = group_table({"class": {f"class {number}": nothing for number in range(80)}}).splitlines()
    assert len(lines) < 20
    assert all(len(line) <= 100 for line in lines)


def test_mixes_have_a_row_each_in_order_and_the_kept_one_a_mark():
    scores = {0.0: {"iou": 0.5}, 1.0: {"iou": 0.6}, 0.75: {"iou": 0.7}, 0.5: {"iou": float("nan")}}
    assert cells(mix_table(scores, "iou", 0.75)) == [
        ["mix", "IoU (mean over objects)", ""],
        ["0 (zero-shot)", "0.5000", ""],
        ["0.5", "nan", ""],
        ["0.75", "0.7000", "* kept"],
        ["1 (best epoch)", "0.6000", ""],
    ]


def test_prompts_are_compared_by_iou_dice_and_pred_iou_mae():
    before = {"iou": 0.5, "dice": 0.6, "pred_iou_mae": 0.2}
    after = {"iou": 0.75, "dice": 0.8, "pred_iou_mae": 0.1}
    table = prompt_table({"box": {"zero_shot": before, "tuned": after}, "point": {"zero_shot": after, "tuned": before}})
    pairs = [f"{score} {model}" for score in ("Dice", "pred_iou MAE") for model in ("zero-shot", "tuned")]
    assert cells(table) == [
        ["prompt", "IoU zero-shot", "IoU tuned", "change", *pairs],
        ["box", "0.5000", "0.7500", "+0.2500", "0.6000", "0.8000", "0.2000", "0.1000"],
        ["point", "0.7500", "0.5000", "-0.2500", "0.8000", "0.6000", "0.1000", "0.2000"],
    ]


def test_boundary_iou_replaces_dice_if_it_was_computed():
    scores = {"iou": 0.5, "dice": 0.6, "boundary_iou": 0.3, "pred_iou_mae": 0.2}
    assert cells(prompt_table({"box": {"zero_shot": scores}})) == [
        ["prompt", "IoU zero-shot", "boundary zero-shot", "pred_iou MAE zero-shot"],
        ["box", "0.5000", "0.3000", "0.2000"],
    ]


def test_a_class_map_has_the_iou_of_each_class_and_absent_classes_are_listed_below(messages):
    names = ["background", "cell", "debris"]
    majority = {"miou": 0.4, "mdice": 0.45, "class_iou/background": 0.8, "class_iou/cell": 0.0}
    head = {"miou": 0.85, "mdice": 0.9, "class_iou/background": 0.9, "class_iou/cell": 0.8}
    table = class_map_table(majority, head, names)
    assert cells(table) == [
        ["classes of pixels", "majority class", "head", "change"],
        ["mIoU (mean over classes)", "0.4000", "0.8500", "+0.4500"],
        ["mDice (mean over classes)", "0.4500", "0.9000", "+0.4500"],
        ["IoU background", "0.8000", "0.9000", "+0.1000"],
        ["IoU cell", "0.0000", "0.8000", "+0.8000"],
    ]
    assert table.splitlines()[-1] == "  absent: debris"
    messages.line(class_map_table(head, head, names), "no better")
