"""What of DeepSpeed's settings is the recipe's, and what is refused; it need not be installed."""

from types import SimpleNamespace

import pytest

from genrec import processes, runtime
from genrec.errors import ConfigError
from genrec.training.zero import configure

ARGUMENTS = SimpleNamespace(
    per_device_train_batch_size=1, gradient_accumulation_steps=3, max_grad_norm=1.0
)


def plugin(**settings):
    return SimpleNamespace(deepspeed_config={"zero_optimization": {"stage": 2}, **settings})


def test_the_recipe_has_its_say_over_the_file():
    given = plugin(
        gradient_accumulation_steps=7,
        gradient_clipping=9.0,
        bf16={"enabled": True},
        communication_data_type="fp32",
    )
    configure(given, ARGUMENTS)
    found = given.deepspeed_config
    assert found["gradient_accumulation_steps"] == 3
    assert found["gradient_clipping"] == 1.0
    assert found["bf16"] == {"enabled": False}  # it would round the weights
    assert found["communication_data_type"] == "fp32"
    assert found["zero_optimization"] == {"stage": 2}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"zero_optimization": {"stage": 0}}, "zero_stage 0, expected 1 or 2"),
        ({"zero_optimization": {"stage": 3}}, "zero_stage 3, expected 1 or 2.*fsdp.yaml"),
        (
            {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}},
            "offload_optimizer_device cpu.*set it to none",
        ),
        ({"optimizer": {"type": "Adam"}}, "table optimizer.*train.learning_rate.*remove it"),
        ({"scheduler": {"type": "WarmupLR"}}, "table scheduler.*remove it"),
    ],
)
def test_what_does_not_fit_is_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        configure(plugin(**settings), ARGUMENTS)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert processes.sharding() == processes.DEEPSPEED
    monkeypatch.setattr(runtime, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'genrec\[deepspeed\]'"):
        runtime.require_processes_for("train")
