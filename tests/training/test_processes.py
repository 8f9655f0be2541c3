"""Training in two processes, against the same training in one: the same weights, bit for bit."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file

from genrec import artifacts, processes
from genrec.config import Recipe
from genrec.errors import ConfigError
from genrec.recipe_file import builtin_names, load_recipe
from genrec.runtime import Runtime
from genrec.training import train
from tests.model.words import letter_model
from tests.tiny_run import TINY, invoke, trained

NAMES = builtin_names()
# What every process draws for itself would differ from what one process draws.
NO_DROPOUT = ["train.scratch.dropout=0", "train.lora.dropout=0"]
SMALL = [
    *(each for each in TINY if not each.startswith(("train.language_model", "train.max_steps"))),
    *NO_DROPOUT, "data.path=null", "embed.method=tfidf", "index.rq_vae.epochs=2",
    "index.rq_vae.hidden=[8]", "index.rq_vae.dimensions=4", "index.rq_vae.minimum_usage=0",
    "align.epochs=1", "train.batch_tokens=900", "train.max_history=4", "train.epochs=50",
    "train.max_steps=5", "train.batches_per_step=2", "train.dense.calibration_users=20",
    "train.task_examples=4", "train.bridge.candidate_items=3",
]  # fmt: skip
LONGER = [*NO_DROPOUT, "train.batches_per_step=2", "train.max_steps=8", "train.evaluations=4"]


# What accelerate's launcher makes of configs/accelerate/fsdp.yaml.
IN_PIECES = {
    "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}  # fmt: skip
# And of configs/accelerate/deepspeed.yaml.
ZERO = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}
NEEDS_DEEPSPEED = pytest.mark.skipif(
    find_spec("deepspeed") is None, reason="DeepSpeed is not installed (genrec[deepspeed])"
)
KINDS = pytest.mark.parametrize(
    "kind",
    [
        pytest.param({}, id="whole"),
        pytest.param(IN_PIECES, id="in pieces"),
        pytest.param(ZERO, id="optimizer in pieces", marks=NEEDS_DEEPSPEED),
    ],
)


def launched(*runs, kind, wait=True, processes=2):
    """Train runs in several processes, one run after the other."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    # What accelerate is told to do on CPUs it does without DeepSpeed.
    on_cpu = {} if kind is ZERO else {"ACCELERATE_USE_CPU": "true"}
    started = subprocess.Popen(
        [*command, "--nproc_per_node", str(processes), "-m", "tests.train_all", *map(str, runs)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | on_cpu | kind,
        stderr=subprocess.PIPE,
        text=True,
    )
    if not wait:
        return started
    try:
        _, said = started.communicate(timeout=300)
    finally:
        started.kill()
    return started.returncode, said


def copied(run, folder):
    """Copy a run without its model."""
    return shutil.copytree(run, folder, ignore=shutil.ignore_patterns("model"))


def digests(run):
    files = sorted((run / "model").rglob("*.safetensors"))
    return {path.name: artifacts.sha256_of(path) for path in files}


def require_equal(run, straight, kind):
    """Weights are equal to the bit, but for roundings where the optimizer sums over pieces."""
    if not kind:
        assert digests(run) == digests(straight), run.name
    for path in sorted((straight / "model").rglob("*.safetensors")):
        want, found = load_file(path), load_file(run / path.relative_to(straight))
        for name, tensor in want.items():
            torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=0, msg=f"{run} {name}")


def require_pieces(said, trainings, share):
    """The first process says what it holds: about its share, with each layer in a group apart."""
    pattern = "this process holds ([0-9,]+) of ([0-9,]+) parameters, in ([0-9]+) groups"
    held = [[int(each.replace(",", "")) for each in line] for line in re.findall(pattern, said)]
    assert len(held) == trainings
    for own, every, groups in held:
        # Not that share of every tensor: a first dimension may be odd, or 1.
        assert 0.8 * share < own / every < 1.3 * share
        assert groups >= 2


def clips_apart(recipe):
    train = recipe.train
    return train.bridge.used or train.dense.weight > 0 or train.distillation_weight > 0


def losses(run):
    log = json.loads((run / "model" / "training.json").read_text())
    return [
        {key: value for key, value in entry.items() if key.startswith(("loss", "tokens_read"))}
        for entry in log
        if "loss" in entry
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Return a folder with a run of every recipe, each trained in one process."""
    folder = tmp_path_factory.mktemp("alone")
    language_model = letter_model(folder / "lm" / "letters", hidden=16, context=1024)
    for name in NAMES:
        own = [f"train.language_model={language_model}"]
        pretrained = load_recipe(name).train.language_model
        sets = [part for each in (*SMALL, *(own if pretrained else [])) for part in ("--set", each)]
        done = invoke("run", name, "--run", folder / name, "--until", "train", "-q", *sets)
        assert done.exit_code == 0, done.stderr
    return folder


@pytest.mark.slow
@KINDS
def test_every_recipe_learns_the_same_in_two_processes(alone, tmp_path, kind):
    runs = [copied(alone / name, tmp_path / name) for name in NAMES]
    code, said = launched(*runs, kind=kind)
    assert code == 0, said
    require_pieces(said, len(NAMES) if kind is IN_PIECES else 0, share=1 / 2)
    for run in runs:
        straight = alone / run.name
        # DeepSpeed clips what is trained beside the model together with it.
        together = kind is ZERO and clips_apart(load_recipe(run.name))
        if not together:
            require_equal(run, straight, kind)
        for one, two in zip(losses(straight), losses(run), strict=True):
            assert two == pytest.approx(one, rel=0.05 if together else 1e-5)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Return a run that was trained in one process without a stop."""
    return trained(tmp_path_factory.mktemp("processes") / "straight", *LONGER)


def test_a_step_of_two_batches_is_not_a_step_of_one(straight, tmp_path):
    other = copied(straight, tmp_path / "other")
    assert invoke("train", other, "-q", "--set", "train.batches_per_step=1").exit_code == 0
    assert digests(other)["model.safetensors"] != digests(straight)["model.safetensors"]
    assert losses(straight)[-1]["tokens_read"] > losses(other)[-1]["tokens_read"]


@pytest.mark.slow
@KINDS
def test_one_that_is_killed_stops_all_and_any_number_goes_on(straight, tmp_path, kind):
    run = copied(straight, tmp_path / "run")
    started = launched(run, kind=kind, wait=False)
    try:
        while not list(run.glob("model.checkpoint/checkpoint-*/trainer_state.json")):
            assert started.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        children = subprocess.run(
            ["pgrep", "-P", str(started.pid)], capture_output=True, text=True, check=True
        )
        os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
        _, said = started.communicate(timeout=120)
    finally:
        started.kill()
    assert started.returncode != 0
    assert "SIGKILL" in said or "Signal 9" in said
    assert not (run / "model").exists()
    alone = shutil.copytree(run, tmp_path / "alone")
    code, said = launched(run, kind=kind)
    assert code == 0, said
    assert "continuing from" in said
    require_equal(run, straight, kind)
    done = invoke("train", alone, "-q")
    assert done.exit_code == 0, done.stderr
    require_equal(alone, straight, kind)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        pytest.param(
            IN_PIECES, ["a-llmrec", "a-llmrec-gpu", "hybrid", "prorec-gpu"], id="in pieces"
        ),
        pytest.param(ZERO, ["stream", "lcrec-gpu"], id="optimizer", marks=NEEDS_DEEPSPEED),
    ],
)
def test_pieces_in_bfloat16(alone, tmp_path, kind, names):
    """Vectors from elsewhere are float32, whatever the number type of products is."""
    for name in names:
        run = copied(alone / name, tmp_path / "one" / name)
        done = invoke("train", run, "-q", "--set", "runtime.dtype=bfloat16")
        assert done.exit_code == 0, done.stderr
        copied(run, tmp_path / "two" / name)
    code, said = launched(*(tmp_path / "two" / name for name in names), kind=kind)
    assert code == 0, said
    require_pieces(said, len(names) if kind is IN_PIECES else 0, share=1 / 2)
    for name in names:
        one, two = losses(tmp_path / "one" / name), losses(tmp_path / "two" / name)
        for first, second in zip(one, two, strict=True):
            assert second == pytest.approx(first, rel=1e-3)


@pytest.mark.slow
def test_pieces_may_be_empty(alone, tmp_path):
    """Adapters of rank 4 among three processes: the last one holds nothing of half of them."""
    run = copied(alone / "stream", tmp_path / "stream")
    sets = ["--set", "train.batches_per_step=3", "--set", "train.lora.rank=4"]
    assert invoke("train", run, "-q", *sets).exit_code == 0
    shared = copied(run, tmp_path / "shared")
    code, said = launched(shared, kind=IN_PIECES, processes=3)
    assert code == 0, said
    require_pieces(said, 1, share=1 / 3)
    require_equal(shared, run, IN_PIECES)


def test_processes_that_cannot_share_a_step_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    runtime = Runtime(device="cpu", quiet=True)
    with pytest.raises(ConfigError, match=r"batches_per_step is 3, which 2 processes cannot"):
        train.run(tmp_path, Recipe.model_validate({"train": {"batches_per_step": 3}}), runtime)
    with pytest.raises(ConfigError, match="2 processes take a GPU each"):
        monkeypatch.setattr(Runtime, "torch_device", lambda _: torch.device("cuda:0"))
        train.run(tmp_path, Recipe.model_validate({"train": {"batches_per_step": 2}}), runtime)
    monkeypatch.undo()
    monkeypatch.setenv("WORLD_SIZE", "2")
    rewarded = {"batches_per_step": 2, "reinforcement": {"steps": 5}}
    with pytest.raises(ConfigError, match="learning from rewards runs in one process"):
        train.run(tmp_path, Recipe.model_validate({"train": rewarded}), runtime)


def test_a_step_of_more_batches_than_there_are_is_refused(straight, tmp_path):
    run = copied(straight, tmp_path / "run")
    done = invoke("train", run, "-q", "--set", "train.batches_per_step=100000")
    assert done.exit_code == 1
    assert re.search("the training has [0-9]+ batches, and a step takes 100000", done.stderr)


def test_one_process_needs_no_group():
    assert (processes.count(), processes.place(), processes.is_first()) == (1, 0, True)
    processes.join(cpu=True)
    processes.wait()
    assert processes.totals([1, 2.5]) == [1, 2.5]
    value = object()
    assert processes.from_first(lambda: value) is value
    with processes.first_before_others():
        pass
