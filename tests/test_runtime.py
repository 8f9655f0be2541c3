import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from genrec import runtime
from genrec.errors import ConfigError
from genrec.runtime import Runtime, require_processes_for


def draw():
    return random.random(), float(np.random.rand()), float(torch.rand(1))  # noqa: NPY002


def test_start_seeds_python_numpy_and_torch():
    Runtime(seed=7).start()
    first = draw()
    Runtime(seed=7).start()
    assert draw() == first
    Runtime(seed=8).start()
    assert all(one != other for one, other in zip(draw(), first, strict=True))


def test_start_sets_threads_and_zero_leaves_them():
    before = torch.get_num_threads()
    try:
        Runtime(threads=1).start()
        assert torch.get_num_threads() == 1
        Runtime(threads=0).start()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_auto_takes_the_gpu_when_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Runtime().torch_device().type == "cuda"
    assert Runtime(device="cpu").torch_device().type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Runtime().torch_device().type == "cpu"


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="cuda:1"):
        Runtime(device="cuda:1").torch_device()


def test_a_device_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="'graphics', expected auto, cpu"):
        Runtime(device="graphics").torch_device()


@pytest.mark.parametrize("name", ["meta", "xpu"])
def test_a_kind_of_device_that_genrec_does_not_use_is_refused(name):
    with pytest.raises(ConfigError, match=f"'{name}', expected auto, cpu"):
        Runtime(device=name).torch_device()


def test_an_apple_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="torch sees 0 devices of type mps"):
        Runtime(device="mps").torch_device()


def test_a_gpu_beyond_the_last_one_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Runtime(device="cuda:1").torch_device().index == 1
    assert Runtime(device="cuda").torch_device().type == "cuda"
    with pytest.raises(ConfigError, match="'cuda:2'.*sees 2 devices"):
        Runtime(device="cuda:2").torch_device()


@pytest.mark.parametrize("fast", [True, False])
def test_number_type_on_the_cpu_follows_its_instructions(monkeypatch, fast):
    monkeypatch.setattr(runtime, "cpu_has_bfloat16", lambda: fast)
    auto = Runtime(device="cpu").torch_dtype()
    assert auto == (torch.bfloat16 if fast else torch.float32)
    assert Runtime(device="cpu", dtype="float32").torch_dtype() == torch.float32
    assert Runtime(device="cpu", dtype="bfloat16").torch_dtype() == torch.bfloat16


def test_logging_lets_genrec_speak_and_others_only_warn():
    code = (
        "import logging; from genrec.runtime import start_logging; start_logging();"
        "logging.getLogger('genrec.x').info('ours');"
        "logging.getLogger('other').info('theirs');"
        "logging.getLogger('other').warning('loud')"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == ""
    assert "ours" in shown.stderr and "loud" in shown.stderr
    assert "theirs" not in shown.stderr


def test_only_a_training_shares_its_work_among_processes(monkeypatch):
    require_processes_for("run")
    monkeypatch.setenv("WORLD_SIZE", "4")
    require_processes_for("train")
    for verb in ("run", "cf", "recommend"):
        with pytest.raises(ConfigError, match=f"4 processes.*Run `genrec {verb}` without"):
            require_processes_for(verb)
    monkeypatch.setenv("WORLD_SIZE", "1")
    require_processes_for("run")


@pytest.mark.parametrize("name", ["FSDP", "MEGATRON_LM"])
def test_weights_in_pieces_need_the_newer_fsdp(monkeypatch, name):
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="asks for .* with 2 processes.*fsdp.yaml"):
        require_processes_for("train")


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED"])
def test_what_is_cut_in_pieces_needs_several_processes(monkeypatch, name):
    monkeypatch.setattr("genrec.runtime.find_spec", lambda package: package)
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    require_processes_for("train")
    with pytest.raises(ConfigError, match="2 processes.*Run `genrec index` without"):
        require_processes_for("index")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(ConfigError, match="with 1 processes"):
        require_processes_for("train")
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "false")
    require_processes_for("train")
