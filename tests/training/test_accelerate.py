"""Training under accelerate's launcher, with the configuration file that comes with genrec."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from genrec import artifacts

CONFIG = Path(__file__).parents[2] / "configs" / "accelerate" / "one-process.yaml"


def launch(folder, *options):
    command = "from accelerate.commands.accelerate_cli import main; main()"
    arguments = ["launch", "--config_file", CONFIG, *options, "-m", "genrec", "train", folder, "-q"]
    return subprocess.run(
        [sys.executable, "-c", command, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )


def test_launched_training_gives_the_weights_of_a_plain_one(tmp_path, run_folder):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    plain = artifacts.sha256_of(folder / "model" / "model.safetensors")
    shutil.rmtree(folder / "model")
    done = launch(folder)
    assert done.returncode == 0, done.stderr
    assert artifacts.sha256_of(folder / "model" / "model.safetensors") == plain


@pytest.mark.slow
def test_a_launcher_that_shards_is_refused(tmp_path, run_folder):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    before = artifacts.read_manifest(folder / "model").digest
    done = launch(folder, "--use_fsdp")
    assert done.returncode != 0
    assert "asks for FSDP with 1 processes" in done.stderr.replace("\n", " ")
    assert artifacts.read_manifest(folder / "model").digest == before
