"""Names on the command line are checked, those in a user's own YAML files are not."""

import pytest

from tests.support.cli import SMALL

OWN = {
    "experiment/short.yaml": "# @package _global_\nepoch: 0\nimage_size: 64\nepochs: ${epoch}\n",
    "experiment/broken.yaml": "loss: {",
    "prompt/jittery.yaml": "_target_: sam_ft.prompts.Box\n",
    "own.yaml": "defaults: [train, _self_]\nbatch_sizes: [4]\nepochs: 0\n",
}


@pytest.fixture
def own(tmp_path):
    """A folder of a user's own YAML files."""
    for name, lines in OWN.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(lines)
    return tmp_path


@pytest.mark.parametrize(
    "typed", [["experiment=short"], ["experiment=short", "++image_size=32"], ["--config-name", "own"]]
)
def test_keys_of_a_users_own_files_may_resemble_settings(messages, cli, own, typed):
    done = cli("train.py", "--config-dir", str(own), *typed, *SMALL)
    messages.refused(done, 2, "epochs=0;")  # the files were read


@pytest.mark.parametrize(
    ("script", "typed", "fact"),
    [
        ("train.py", ["experiment=shrt"], "did you mean short?"),
        ("train.py", ["+epoch=3"], "epochs"),
        ("train.py", ["--config-name=own", "+debg=true"], "debug"),
        ("train.py", ["eval_prompt=box"], "iterative, jittery, mask"),
        ("evaluate.py", ["model=vit_b", "data=demo", "eval_prompts=[jitter]"], "did you mean jittery?"),
    ],
)
def test_hints_know_a_users_own_choices(messages, cli, own, script, typed, fact):
    done = cli(script, "--config-dir", str(own), *typed)
    messages.refused(done, 2, fact)
    assert done.err.count("\n") == 1


def test_a_file_that_is_no_yaml_is_named_in_one_line(cli, own):
    done = cli("train.py", "--config-dir", str(own), "experiment=broken")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert str(own / "experiment/broken.yaml") in done.err


def test_an_option_that_plus_added_can_be_set_without_plus(messages, cli):
    added = ["+loss.terms.lovasz={_target_:sam_ft.losses.Lovasz,weight:1}", "loss.terms.lovasz.weight=2"]
    messages.refused(cli("train.py", *added, "epochs=0"), 2, "epochs=0;")  # the last of the checks


@pytest.mark.slow
@pytest.mark.parametrize("override", ["epochs=0", "optimizer.lr_factors=[0.1]", "data.objects=none"])
def test_debug_prints_the_traceback_and_keeps_the_exit_code(cli, tmp_path, override):
    done = cli("train.py", override, "logger=none", f"run_dir={tmp_path}")
    assert "Traceback" not in done.err
    debugged = cli("train.py", override, "logger=none", f"run_dir={tmp_path}", "debug=true")
    assert "Traceback" in debugged.err
    assert (debugged.code, debugged.err.splitlines()[-1]) == (done.code, done.err.splitlines()[-1])
