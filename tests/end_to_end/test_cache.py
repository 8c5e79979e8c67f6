"""The embedding cache under the scripts: killed, damaged, shared by runs at once, by sweeps and by processes."""

import re
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from sam_ft.data.io import fingerprint
from sam_ft.data.sources import file_split
from tests.conftest import of
from tests.support.cli import ROOT, SMALL, start, torchrun
from tests.support.run_files import metrics_lines, validated


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_FT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def entries(home):
    return sorted(home.glob("embeddings/*/*.safetensors"))


def losses(directory):
    return [line["train/loss"] for line in metrics_lines(directory) if "train/loss" in line]


def encoded(text):
    """(images encoded, of so many) for each line of the log that counts them."""
    return [(int(some), int(all_)) for some, all_ in re.findall(r"encoding (\d+) images .* \(of (\d+)\)", text)]


@pytest.mark.slow
def test_each_image_is_encoded_once_by_training_and_never_by_evaluation(blobs, tmp_path, cli, own_home, run):
    done = cli("train.py", *SMALL, *of(blobs), f"run_dir={tmp_path / 'run'}", "epochs=2")
    assert done.code == 0, done.err
    assert encoded(done.out) == [(3, 3), (5, 5)]  # val; of the 6 to train on one has no objects
    assert len(entries(own_home)) == 8
    assert validated(tmp_path / "run") == validated(run)  # which has a cache of its own
    done = cli("evaluate.py", f"run={tmp_path / 'run'}", "workers=0")
    assert (done.code, encoded(done.out)) == (0, [])


@pytest.mark.slow
def test_evaluation_caches_the_embeddings_of_a_tuned_encoder_apart(blobs, tmp_path, cli, own_home):
    arguments = [*SMALL, *of(blobs), f"run_dir={tmp_path / 'run'}", "epochs=2", "adapt=full"]
    done = cli("train.py", *arguments)
    assert "* best" in done.out  # else the tuned encoder is the old one
    for expected in ([(3, 3), (3, 3)], []):  # zero-shot, then tuned; the second time both are there
        done = cli("evaluate.py", f"run={tmp_path / 'run'}", "workers=0")
        assert (done.code, encoded(done.out)) == (0, expected)
    assert len(entries(own_home)) == 6


@pytest.mark.slow
def test_without_a_cache_the_losses_are_the_same_to_a_thousandth(blobs, tmp_path, cli, own_home, run):
    done = cli("train.py", *SMALL, *of(blobs), f"run_dir={tmp_path / 'run'}", "epochs=2", "cache=none")
    assert done.code == 0, done.err
    assert entries(own_home) == []
    fresh, cached = losses(tmp_path / "run"), losses(run)
    assert fresh != cached
    assert fresh == pytest.approx(cached, abs=1e-3)


@pytest.mark.slow
def test_an_encoder_that_learns_as_a_whole_has_no_cache_and_the_log_names_the_reason(
    messages, blobs, tmp_path, cli, own_home
):
    done = cli("train.py", *SMALL, *of(blobs), f"run_dir={tmp_path / 'run'}", "epochs=1", "adapt=full")
    assert done.code == 0, done.err
    messages.line(done.out, "cache: ", "encoder")
    assert entries(own_home) == []


@pytest.mark.slow
def test_color_caches_the_validation_images_only_and_the_log_names_the_price(messages, blobs, tmp_path, cli, own_home):
    arguments = [*SMALL, *of(blobs), f"run_dir={tmp_path / 'run'}", "epochs=1", "transform@train_transform=color"]
    done = cli("train.py", *arguments)
    assert done.code == 0, done.err
    messages.line(done.out, "cache: ", "ColorJitter", " s of every epoch")
    assert len(entries(own_home)) == 3


@pytest.mark.slow
def test_flips_are_cached_as_they_are_drawn_and_train_as_without_a_cache(blobs, tmp_path, cli, own_home):
    for cache in ("auto", "none"):
        arguments = [*SMALL, *of(blobs), f"run_dir={tmp_path / cache}", "epochs=3", f"cache={cache}"]
        # a small rate: AdamW's steps would make the rounding of float16 grow
        assert cli("train.py", *arguments, "transform@train_transform=flips", "optimizer.lr=1e-5").code == 0
    assert 8 < len(entries(own_home)) <= 3 + 3 * 5
    assert losses(tmp_path / "auto") == pytest.approx(losses(tmp_path / "none"), abs=1e-3)


def test_views_and_color_do_not_go_together(messages, blobs, tmp_path, cli):
    arguments = [*SMALL, *of(blobs), f"run_dir={tmp_path / 'run'}", "transform@train_transform=color", "cache.views=4"]
    done = cli("train.py", *arguments)
    messages.refused(done, 2, "cache.views=4", "train_transform", "ColorJitter")


@pytest.mark.slow
def test_a_flipped_byte_is_noticed_and_the_image_encoded_again_by_the_next_epoch(blobs, tmp_path, cli, own_home, run):
    arguments = [*SMALL, *of(blobs), "epochs=2"]
    assert cli("train.py", *arguments, f"run_dir={tmp_path / 'first'}").code == 0
    damaged = entries(own_home)[2]
    good, content = damaged.read_bytes(), load_file(damaged)["map0"].clone()  # not a map of the file
    damaged.write_bytes(good[:-9] + bytes([good[-9] ^ 16]) + good[-8:])
    done = cli("train.py", *arguments, f"run_dir={tmp_path / 'second'}", "workers=1")
    assert done.code == 0, done.err
    assert done.out.count("1 cached embeddings are gone or damaged") == 1
    assert [some for some, _ in encoded(done.out)] == [1]
    assert torch.equal(load_file(damaged)["map0"], content)
    assert validated(tmp_path / "first") == validated(tmp_path / "second")


@pytest.mark.slow
def test_a_second_run_decodes_no_image(blobs, tmp_path, cli, own_home, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(fingerprint, "SETTLED", -1.0)  # as if the files were older
    arguments = [*SMALL, *of(blobs), "epochs=2"]
    assert cli("train.py", *arguments, f"run_dir={tmp_path / 'first'}").code == 0
    monkeypatch.setattr(file_split, "read_image_with_missing", fail)
    done = cli("train.py", *arguments, f"run_dir={tmp_path / 'second'}")
    assert (done.code, encoded(done.out)) == (0, []), done.err
    assert validated(tmp_path / "first") == validated(tmp_path / "second")
    assert losses(tmp_path / "first") == losses(tmp_path / "second")


@pytest.mark.slow
def test_an_encoder_whose_neck_learns_is_cached_before_it(blobs, tmp_path, cli, own_home):
    learn = 'adapt.train=["mask_decoder.*","image_encoder.neck.*"]'
    for cache in ("auto", "none"):
        arguments = [*SMALL, *of(blobs), f"run_dir={tmp_path / cache}", "epochs=2", f"cache={cache}"]
        done = cli("train.py", *arguments, learn, *(["cache.dtype=float32"] if cache == "auto" else []))
        assert done.code == 0, done.err
    assert {load_file(path)["map0"].numel() for path in entries(own_home)} == {320 * 16 * 16}
    assert losses(tmp_path / "auto") == losses(tmp_path / "none")
    assert validated(tmp_path / "auto") == validated(tmp_path / "none")


@pytest.mark.slow
def test_killed_while_it_writes_it_goes_on_with_the_missing_images_only(blobs, tmp_path, cli, own_home, run):
    arguments = [*SMALL, *of(blobs), f"run_dir={tmp_path / 'run'}", "epochs=2"]
    done = start(sys.executable, "-m", "tests.support.killed", "5", *arguments, PYTHONPATH=str(ROOT))
    assert done.code == -signal.SIGKILL, done
    assert len(entries(own_home)) == 4
    done = cli("train.py", *arguments)
    assert done.code == 0, done.err
    assert encoded(done.out) == [(4, 5)]
    assert validated(tmp_path / "run") == validated(run)


@pytest.mark.slow
def test_two_runs_at_once_on_one_cache_both_end_well(blobs, tmp_path, own_home, run):
    commands = [
        [sys.executable, "train.py", *SMALL, *of(blobs), f"run_dir={tmp_path / name}", "epochs=2"] for name in "ab"
    ]
    running = [subprocess.Popen(c, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for c in commands]
    ended = [(process.communicate(timeout=300)[0], process.returncode) for process in running]
    for (out, code), name in zip(ended, "ab", strict=True):
        assert code == 0, out
        for scores, alone in zip(validated(tmp_path / name), validated(run), strict=True):
            assert scores == pytest.approx(alone, abs=1e-3)  # another process may have rounded a value the other way
    assert len(entries(own_home)) == 8
    assert not list(own_home.glob("embeddings/*/*tmp*"))


@pytest.mark.slow
@pytest.mark.parametrize("launch", [lambda *a: start(sys.executable, *a), torchrun], ids=["python", "torchrun"])
def test_a_sweep_of_four_jobs_encodes_each_image_once(blobs, tmp_path, launch, own_home):
    arguments = [*SMALL, *of(blobs), f"run_dir={tmp_path}/${{name}}", "epochs=1"]
    done = launch("train.py", "-m", *arguments, "loss=bce_iou,sam", "optimizer.lr=1e-4,3e-5")
    assert done.code == 0, done.err
    logs = "".join((tmp_path / f"sweep/{job}/train.log").read_text() for job in range(4))
    assert encoded(logs) == [(3, 3), (5, 5)]
    assert len(entries(own_home)) == 8
