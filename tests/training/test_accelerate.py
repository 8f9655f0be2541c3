"""Training under accelerate's launcher, with the configuration file that comes with genrec."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from genrec import artifacts

CONFIGS = Path(__file__).parents[2] / "configs" / "accelerate"


def launch(folder, *options, config="one-process", sets=()):
    command = "from accelerate.commands.accelerate_cli import main; main()"
    file = CONFIGS / f"{config}.yaml"
    stage = ["-m", "genrec", "train", folder, "-q", *(part for each in sets for part in each)]
    arguments = ["launch", "--config_file", file, *options, *stage]
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


NEEDS_DEEPSPEED = pytest.mark.skipif(
    find_spec("deepspeed") is None, reason="DeepSpeed is not installed (genrec[deepspeed])"
)


@pytest.mark.slow
@NEEDS_DEEPSPEED
@pytest.mark.parametrize("stage", ["1", "2"])
def test_deepspeed_from_its_file_gives_the_weights_of_one_process(tmp_path, run_folder, stage):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    sets = [("--set", "train.batches_per_step=2"), ("--set", "train.scratch.dropout=0")]
    alone = launch(folder, sets=sets)
    assert alone.returncode == 0, alone.stderr
    plain = load_file(folder / "model" / "model.safetensors")
    shutil.rmtree(folder / "model")
    options = ["--num_processes", "2", "--zero_stage", stage]
    done = launch(folder, *options, config="deepspeed", sets=sets)
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(
        load_file(folder / "model" / "model.safetensors"), plain, atol=1e-6, rtol=0
    )


@pytest.mark.slow
@NEEDS_DEEPSPEED
def test_the_stage_that_cuts_the_weights_is_refused(tmp_path, run_folder):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    shutil.rmtree(folder / "model")
    sets = [("--set", "train.batches_per_step=2")]
    options = ["--num_processes", "2", "--zero_stage", "3"]
    done = launch(folder, *options, config="deepspeed", sets=sets)
    assert done.returncode != 0
    assert "zero_stage 3, expected 1 or 2" in done.stderr.replace("\n", " ")
    assert not (folder / "model").exists()


@pytest.mark.slow
def test_a_launcher_that_shards_is_refused(tmp_path, run_folder):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    before = artifacts.read_manifest(folder / "model").digest
    done = launch(folder, "--use_fsdp")
    assert done.returncode != 0
    assert "asks for FSDP with 1 processes" in done.stderr.replace("\n", " ")
    assert artifacts.read_manifest(folder / "model").digest == before
