"""The wheel in an environment of its own, as somebody without the clone uses it."""

import ast
import configparser
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from sam_ft.utils.distributed import process_group
from sam_ft.utils.errors import ConfigError
from tests.conftest import of
from tests.support.cli import ROOT, Done, start

SMALL = ["logger=none", "workers=0", "pictures=0", "epochs=1"]
TINY = [*SMALL, "model.image_size=64"]
AREA = """
class Area:
    weight = 0.5

    def __call__(self, logits, masks, valid):
        return ((logits.sigmoid() - masks.float()) * valid).flatten(1).mean(1).abs()
"""


def test_the_listed_packages_are_the_folders():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = config["options"]["packages"].split()
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "sam_ft").rglob("__init__.py")}
    assert listed == sorted(folders | {"sam_ft.conf"})


HYDRA = """
import hydra, sam_ft
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig


@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    assert 0 < sam_ft.train(SETTINGS) < 1
    print(HydraConfig.get().job.name, GlobalHydra.instance().is_initialized())


main()
"""
OLD = """
import runpy, sys
sys.version_info, sys.argv = (3, 9, 7, "final", 0), [sys.argv[1]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("script", ["train.py", "evaluate.py", "predict.py"])
def test_an_old_python_is_refused_in_one_line(messages, script):
    for path in (script, "sam_ft/__init__.py"):  # it has to read these two
        ast.parse((ROOT / path).read_text(), feature_version=(3, 9))
    done = start(sys.executable, "-c", OLD, script)
    messages.refused(done, 2, "3.9", "3.10")


@pytest.mark.parametrize(
    ("variables", "typed"),
    [
        ({"SLURM_NTASKS": "4"}, "--nproc-per-node=4 --standalone "),
        ({"SLURM_NTASKS": "4", "SLURM_NNODES": "2"}, "--nproc-per-node=2 --rdzv-backend"),
        ({"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "3"}, "--nproc-per-node=3 "),
    ],
)
def test_srun_without_torchrun_is_refused_with_the_line_to_type(messages, variables, typed, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "epochs=3"])
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with messages.raises(ConfigError, "SLURM_NTASKS", typed), process_group():
        pass


@pytest.mark.parametrize(
    "variables", [{"SLURM_NTASKS": "1"}, {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"}, {"WORLD_SIZE": "1"}]
)
def test_one_task_and_the_processes_of_torchrun_are_let_through(variables, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "4")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with process_group():
        pass


@pytest.mark.slow
def test_a_program_of_hydra_keeps_its_own_state(blobs, tmp_path):
    script = tmp_path / "own.py"
    settings = [*TINY, *of(blobs), f"run_dir={tmp_path / 'run'}"]
    script.write_text(HYDRA.replace("SETTINGS", repr(settings)))
    done = start(sys.executable, str(script), PYTHONPATH=str(ROOT))  # Hydra leaves a log handler in its process
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "own True"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of commands of a virtual environment with the wheel; its dependencies are those of this one."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv/bin/python"
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", str(wheel)], check=True)
    # The folder alone: its .pth files, one of which leads to the clone, are not read.
    inside = next((folder / "venv/lib").glob("python*/site-packages"))
    (inside / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv/bin"


@pytest.fixture(scope="module")
def command(installed, tmp_path_factory):
    """Runs a command of the environment in an empty folder, and expects it to end well unless told otherwise."""
    place = tmp_path_factory.mktemp("place")

    def run(name: str, *arguments: str, code: int = 0) -> Done:
        own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment = {**own, "OMP_NUM_THREADS": "1", "SAM_FT_HOME": str(place / "home")}
        line = [str(installed / name), *arguments]
        done = subprocess.run(line, cwd=place, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    run.place = place
    return run


@pytest.mark.slow
def test_the_commands_of_the_wheel_run_the_demo_in_an_empty_folder(command):
    where = command("python", "-c", "import sam_ft; print(sam_ft.__file__, sam_ft.__version__)").out
    assert str(ROOT) not in where
    assert command("sam-ft", "--version").out.strip() == where.split()[1]
    command("sam-ft", "check")
    command("sam-ft", "train", *TINY, "name=demo")
    assert "tuned" in command("sam-ft", "evaluate", "run=outputs/demo", "workers=0", "pictures=0").out
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command("python", *launcher, "-m", "sam_ft", "train", *TINY, "name=two")
    assert Path(command.place, "outputs/two/checkpoints/best.safetensors").exists()
    assert "error: " in command("sam-ft", "predict", code=2).err


@pytest.mark.slow
def test_parts_of_a_users_own_beside_the_wheel(command, blobs):
    (command.place / "mylab").mkdir()
    (command.place / "mylab/losses.py").write_text(AREA)
    (command.place / "mylab/metrics.py").write_text(
        "class Own(__import__('sam_ft').metrics.SegmentationMetrics): ...\n"
    )
    own = command.place / "own"
    (own / "loss").mkdir(parents=True)
    (own / "metric").mkdir()
    (own / "loss/area.yaml").write_text("defaults: [bce_iou]\nterms:\n  area:\n    _target_: mylab.losses.Area\n")
    (own / "metric/own.yaml").write_text("_target_: mylab.metrics.Own\n")
    command("sam-ft", "train", "--config-dir", "own", *SMALL, *of(blobs), "loss=area", "metric=own", "name=own")

    run = ["run=outputs/own", "workers=0", "pictures=0"]
    # The loss is not needed again. The metric is: either it is trusted, or another one replaces it.
    refused = command("sam-ft", "evaluate", *run, code=2)
    assert "mylab.metrics.Own" in refused.err
    assert "trust=[" in refused.err
    scores = [command("sam-ft", "evaluate", *run, more).out for more in ("trust=[mylab]", "metric=iou_dice")]
    assert scores[0] == scores[1]
    command("sam-ft", "export", "run=outputs/own")
    assert list(Path(command.place, "outputs/own/export").rglob("*.pth"))
    command("python", "-c", "import sam_ft; sam_ft.Predictor.from_run('outputs/own')")


NOTEBOOK = """
import sam_ft
own = "logger=none workers=0 pictures=0 epochs=1 model.image_size=64 name=notebook".split()
score = sam_ft.train(own)
again = sam_ft.evaluate(["run=outputs/notebook", "workers=0", "pictures=0"])
assert abs(score - again) < 1e-3, (score, again)
for wrong in (["epochz=1"], ["data=folder"], ["epochs=many"]):
    try:
        sam_ft.train([*wrong, "name=wrong"])
    except sam_ft.utils.errors.UserError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_notebook_trains_and_evaluates_and_gets_errors_as_exceptions(command):
    told = command("python", "-c", NOTEBOOK).out.splitlines()[-3:]
    assert [name in line for name, line in zip(("epochz", "data.root", "epochs"), told, strict=True)] == [True] * 3


@pytest.mark.slow
def test_a_launcher_of_sweeps_runs_two_jobs(command, blobs):
    launcher = "hydra/launcher=submitit_local"
    command("sam-ft", "train", "-m", launcher, *TINY, *of(blobs), "optimizer.lr=1e-4,3e-5", "name=sweep")
    jobs = Path(command.place, "outputs/sweep/sweep.jsonl").read_text().splitlines()
    assert len(jobs) == 2


@pytest.mark.slow
def test_a_search_of_the_users_own_extends_the_one_of_the_wheel(command, blobs):
    pytest.importorskip("optuna", reason='needs pip install "sam-ft[optuna]"')
    own = Path(command.place, "my_conf/hydra/sweeper/short.yaml")
    own.parent.mkdir(parents=True)
    own.write_text("defaults: [optuna, _self_]\nn_trials: 2\n")
    search = ["--config-dir", "my_conf", "-m", "hydra/sweeper=short", "adapt=decoder", "name=search"]
    command("sam-ft", "train", *search, *TINY, *of(blobs))
    jobs = Path(command.place, "outputs/search/sweep.jsonl").read_text().splitlines()
    assert len(jobs) == 2
    assert Path(command.place, "outputs/search/optuna.db").exists()
