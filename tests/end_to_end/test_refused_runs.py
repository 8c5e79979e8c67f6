"""Directories of runs that are none, cannot be exported, or come from someone else."""

import shutil

import pytest
from omegaconf import OmegaConf

from sam_ft.cli.run_config import write_run_config
from sam_ft.models import build_model
from sam_ft.training.checkpoint import save_partial_weights
from tests.end_to_end.conftest import CONFIG


@pytest.mark.parametrize("script", ["evaluate.py", "sam_ft.export"])
def test_a_directory_that_holds_no_run(refused, script, tmp_path):
    refused(CONFIG, "config.yaml", "outputs/NAME", script=script, overrides=[f"run={tmp_path}"])


def test_export_in_a_format_that_is_not_known(refused, run):
    refused(CONFIG, "format=onnx3d", "official", script="sam_ft.export", overrides=[f"run={run}", "format=onnx3d"])


def test_export_at_a_side_that_the_official_package_cannot_build(refused, run):
    refused(CONFIG, "model.image_size=64", "256", script="sam_ft.export", overrides=[f"run={run}"])


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.open",
        "torch.hub.load",
        "sam_ft.utils.files.os.system",
        "sam_ft.cli.runs.shutil.rmtree",
        "sam_ft.models.download.download",
        "sam_ft.training.checkpoint.save_partial_weights",
        "evil.run",
    ],
)
def test_a_run_whose_config_calls_something_else_is_refused_and_nothing_is_called(refused, run, tmp_path, target):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    cfg = OmegaConf.load(copy / "config.yaml")
    marker = tmp_path / "marker"
    cfg.metric = {"_target_": target, "command": f"touch {marker}"}
    OmegaConf.save(cfg, copy / "config.yaml")
    refused(CONFIG, target, "config.yaml: ", script="evaluate.py", overrides=[f"run={copy}", "workers=0"])
    assert not marker.exists()


@pytest.fixture
def foreign(folder, tmp_path):
    """The directory of a run that came from someone else, and a folder outside of it."""
    parts = {
        "data": {"_target_": "sam_ft.data.sources.folder.Folder", "root": str(folder)},
        "model": {"_target_": "sam_ft.models.build_model", "model_type": "lite_medsam"},
        "metric": {"_target_": "sam_ft.metrics.SegmentationMetrics"},
        "cache": {"_target_": "sam_ft.cache.EmbeddingCache"},
        "eval_prompt": {"_target_": "sam_ft.prompts.Box"},
    }
    (tmp_path / "run").mkdir()
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/scores.json").write_text("precious")
    write_run_config(tmp_path / "run/config.yaml", {**parts, "precision": "auto"})
    return tmp_path / "run"


OUTPUTS = {
    "evaluation": ("evaluation", ["evaluate.py"]),
    "a file in the evaluation": ("evaluation/worst_and_best.png", ["evaluate.py"]),
    "evaluation of other data": ("evaluation-cells", ["evaluate.py", "+data.root=cells"]),
    "a folder in it": ("mine/below", ["evaluate.py", "output=RUN/mine/below/scores"]),
    "predictions": ("predictions", ["predict.py", "images=IMAGES"]),
    "a format": ("predictions/images/labels", ["predict.py", "images=IMAGES"]),
    "export": ("export", ["sam_ft.export"]),
    "the report": ("report.html", ["sam_ft.report"]),
    "a folder of the report": ("mine", ["sam_ft.report", "output=RUN/mine/report.html"]),
    "the page": ("page", ["sam_ft.app"]),
    "a folder of the page": ("page/training", ["sam_ft.app"]),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_nothing_is_written_through_a_link_in_the_directory_of_a_run(refused, foreign, folder, name, monkeypatch):
    link, (script, *overrides) = OUTPUTS[name]
    victim = foreign.parent / "victim"
    (foreign / link).parent.mkdir(parents=True, exist_ok=True)
    (foreign / link).symlink_to(victim)
    if script == "sam_ft.export":  # which looks at its output once it has the weights
        model = build_model("lite_medsam")
        save_partial_weights(model, foreign / "checkpoints/best.safetensors")
    own = [one.replace("RUN", str(foreign)).replace("IMAGES", str(folder / "images")) for one in overrides]
    refused(CONFIG, foreign / link, victim, script=script, overrides=[f"run={foreign}", *own])
    assert [(path.name, path.read_text()) for path in victim.iterdir()] == [("scores.json", "precious")]


def test_a_configuration_of_someone_else_reads_no_environment_variable(refused, foreign, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    path = foreign / "config.yaml"
    path.write_text(path.read_text().replace("precision: auto", "precision: ${oc.env:WANDB_API_KEY}"))
    for script, *rest in (["evaluate.py"], ["predict.py", "images=x"], ["sam_ft.export"]):
        refused(CONFIG, "config.yaml", "${oc.env:WANDB_API_KEY}", script=script, overrides=[f"run={foreign}", *rest])
