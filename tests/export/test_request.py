from pathlib import Path

from sam_ft.export.request import ExportRequest, export_name
from sam_ft.models.heads import InstanceHead
from tests.support.tiny import tiny_sam


def test_other_weights_have_another_name(tmp_path):
    names = set()
    for content in ("one", "other"):
        (tmp_path / "best.safetensors").write_text(content)
        names.add(export_name("vit_t", Path("outputs/cells"), tmp_path / "best.safetensors"))
    assert len(names) == 2
    assert all(name.startswith("vit_t_cells_") and len(name) == len("vit_t_cells_") + 8 for name in names)


def test_a_name_has_only_letters_that_every_program_reads(tmp_path):
    (tmp_path / "best.safetensors").write_text("")
    name = export_name("vit_t", Path("outputs/Zellen, größer=2.5"), tmp_path / "best.safetensors")
    assert name.startswith("vit_t_Zellen_gr_er_2.5_")


def test_the_name_is_that_of_the_folder_also_where_it_is_given_as_a_dot(tmp_path, monkeypatch):
    (tmp_path / "cells").mkdir()
    (tmp_path / "best.safetensors").write_text("")
    monkeypatch.chdir(tmp_path / "cells")
    assert export_name("vit_t", Path("."), tmp_path / "best.safetensors").startswith("vit_t_cells_")


def test_the_readme_names_files_scores_and_a_head_that_is_left_out(tmp_path):
    model = tiny_sam()
    model.attach_head(InstanceHead())
    file = tmp_path / "weights.pt"
    file.write_bytes(bytes(1_500_000))
    notes = {"zero_shot": {"iou": 0.5}, "best": {"iou": 0.75}}
    request = ExportRequest(model, tmp_path, tmp_path, "tiny_cells_0123abcd", notes)
    text = request.write_readme([file], "\nload it\n").read_text()
    for fact in ("# tiny_cells_0123abcd", "tiny at 64 px", "iou 0.500 → 0.750", "`weights.pt` (1.5 MB)", "load it"):
        assert fact in text
    assert "Without its head" in text
    assert "head" not in request.write_readme([file], "load it", with_head=True).read_text()
