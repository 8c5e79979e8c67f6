import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from sam_ft.cli.config import build
from sam_ft.cli.hints import CONF
from tests.conftest import of
from tests.support.cli import SMALL
from tests.support.tiny import tiny_sam

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason='needs pip install "sam-ft[optuna]"')
SEARCH = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=1", *SMALL]


def test_each_part_that_the_default_search_trains_leaves_a_frozen_part_to_cache():
    choices = OmegaConf.load(CONF / "hydra/sweeper/optuna.yaml").params.adapt
    names = list(OverridesParser.create().parse_override(f"adapt={choices}").sweep_iterator())
    assert len(names) > 1
    for name in names:
        model = tiny_sam()
        build(OmegaConf.load(CONF / f"adapt/{name}.yaml"))(model)
        assert model.image_encoder.cut > 0, name


def test_without_the_extra_the_error_names_it(messages, monkeypatch, tmp_path, cli):
    monkeypatch.delitem(sys.modules, "sam_ft.cli.search", raising=False)
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = cli("train.py", *SEARCH, f"run_dir={tmp_path}")
    messages.refused(done, 2, 'pip install "sam-ft[optuna]"')


@pytest.mark.slow
def test_a_finished_search_is_not_continued_with_other_settings(messages, blobs, tmp_path, cli):
    arguments = [*SEARCH, *of(blobs), f"run_dir={tmp_path}", "epochs=1"]
    done = cli("train.py", *arguments, "adapt=decoder")
    assert (done.code, done.err) == (0, "")
    log = (tmp_path / "0/train.log").read_text()
    # More jobs, or settings that a run may change, are no other search.
    done = cli("train.py", *arguments, "adapt=decoder", "log_every=1")
    assert (done.code, done.err) == (0, "")
    assert (tmp_path / "0/train.log").read_text() == log
    assert not (tmp_path / "1").exists()
    messages.refused(cli("train.py", *arguments, "adapt=full"), 2, "adapt=full")


def test_a_search_of_which_all_jobs_fail_says_so(messages, tmp_path, cli):
    done = cli("train.py", *SEARCH, f"run_dir={tmp_path}", "clip_norm=0", "hydra.sweeper.n_trials=2")
    assert done.code == 1
    messages.line(done.err, "all jobs", "sweep.jsonl")
    assert len((tmp_path / "sweep.jsonl").read_text().splitlines()) == 2
