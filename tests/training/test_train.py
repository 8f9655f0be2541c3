"""The train stage on a world that can be learned exactly, and its recovery from kill -9."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from genrec import artifacts
from genrec.decoding.ranker import GenerativeRanker
from genrec.errors import ArtifactError, ConfigError, DependencyError
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import encoder_decoder_from_scratch
from genrec.model.new_rows import NEW_ROWS, Given
from genrec.training import train
from tests.training.world import (
    ENCODER_DECODER,
    RUNTIME,
    SCRATCH,
    make_run,
    recipe,
    tiny_language_model,
    with_other_held_out,
)

CPU = torch.device("cpu")


@pytest.fixture
def run_folder(tmp_path, cycle_dataset, small_index):
    return make_run(tmp_path / "run", cycle_dataset, small_index)


# Nothing dropped, so that it learns the circle in as many passes on every machine.
CERTAIN = {"scratch": ENCODER_DECODER["scratch"] | {"dropout": 0.0}, "item_dropout": 0.0}


@pytest.mark.parametrize(
    "changes", [{}, ENCODER_DECODER | CERTAIN], ids=["decoder", "encoder-decoder"]
)
def test_learns_the_circle_and_the_folder_serves_alone(run_folder, cycle_dataset, changes):
    folder = train.run(run_folder, recipe(**changes), RUNTIME)
    alone = folder.rename(run_folder.parent / "elsewhere")
    model = GenerativeModel.load(alone, device=CPU)
    starts = np.arange(24, dtype=np.int32)
    rankings = GenerativeRanker(model, beam=10).rank(
        [(start + np.arange(3, dtype=np.int32)) % 24 for start in starts], 3
    )
    right = [ranking.items[0] == (start + 3) % 24 for start, ranking in enumerate(rankings)]
    assert sum(right) >= 20
    assert model.catalog.item_ids == cycle_dataset.catalog.item_ids
    assert model.item_counts.tolist() == cycle_dataset.item_counts.tolist()
    log = json.loads((alone / "training.json").read_text())
    assert any("tokens_per_second" in entry for entry in log)
    costs = [(at["tokens_read"], at["train_seconds"]) for at in log if "eval_loss" in at]
    assert costs == sorted(costs) and costs[0][0] > 0
    assert all(0 <= entry["padding_share"] < 1 for entry in log if "padding_share" in entry)
    assert {"eval_accuracy_1", "eval_accuracy_2", "eval_ndcg@10"} <= set().union(*log)
    assert (alone / "training.png").stat().st_size > 1000
    assert not (run_folder / "model.checkpoint").exists()


def test_held_out_events_change_nothing_but_the_choice_of_checkpoint(
    tmp_path, cycle_dataset, small_index
):
    """A planted leak: other held-out items must leave the training batches as they are."""
    planted = with_other_held_out(cycle_dataset)
    weights = []
    for name, dataset in (("a", cycle_dataset), ("b", planted)):
        run = make_run(tmp_path / name, dataset, small_index)
        folder = train.run(run, recipe(evaluations=1, epochs=2), RUNTIME)
        weights.append(artifacts.sha256_of(folder / "model.safetensors"))
    assert weights[0] == weights[1]


CHILD = """
import os, signal, sys
from pathlib import Path
from typing import Any
from genrec.config import Recipe
from genrec.runtime import Runtime
from genrec.training import train
calls, die_at = 0, int(sys.argv[3])
measure = train.validate
def validate(*args, **kwargs):
    global calls
    calls += 1
    if calls == die_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return measure(*args, **kwargs)
train.validate = validate
runtime = Runtime(device="cpu", threads=1, quiet=True)
train.run(Path(sys.argv[1]), Recipe.model_validate_json(sys.argv[2]), runtime)
"""


def run_child(folder, settings, die_at):
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), settings.model_dump_json(), str(die_at)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("pretrained", "changes"),
    [(False, {}), (True, {}), (False, ENCODER_DECODER), (True, {"distillation_weight": 0.5})],
)
def test_kill_and_resume_gives_the_weights_of_an_uninterrupted_run(
    pretrained, changes, tmp_path, cycle_dataset, small_index
):
    changes = changes | {"epochs": 6, "evaluations": 4}
    if pretrained:
        source = tiny_language_model(tmp_path / "lm", small_index)
        changes["language_model"] = str(source)
    settings = recipe(**changes)
    straight = make_run(tmp_path / "straight", cycle_dataset, small_index)
    train.run(straight, settings, RUNTIME)
    killed = make_run(tmp_path / "killed", cycle_dataset, small_index)
    first = run_child(killed, settings, die_at=3)
    assert first.returncode == -9, first.stderr
    assert not (killed / "model").exists()
    assert list((killed / "model.checkpoint").glob("checkpoint-*/trainer_state.json"))
    second = run_child(killed, settings, die_at=99)
    assert second.returncode == 0, second.stderr
    for name in ("model.safetensors", "codes.safetensors"):
        assert artifacts.sha256_of(killed / "model" / name) == artifacts.sha256_of(
            straight / "model" / name
        )
    read = [
        [entry["tokens_read"] for entry in json.loads(path.read_text()) if "eval_loss" in entry]
        for path in (killed / "model" / "training.json", straight / "model" / "training.json")
    ]
    assert read[0] == read[1]
    if pretrained:
        name = "adapter/adapter_model.safetensors"
        assert artifacts.sha256_of(killed / "model" / name) == artifacts.sha256_of(
            straight / "model" / name
        )


def test_lora_on_a_local_model_with_instructions_learns(run_folder, small_index, tmp_path):
    source = tiny_language_model(tmp_path / "lm", small_index)
    folder = train.run(
        run_folder,
        recipe(
            language_model=str(source),
            form="instruction",
            epochs=40,
            crop_probability=0.9,
            lora={"rank": 8, "alpha": 16},
        ),
        RUNTIME,
    )
    losses = [
        entry["eval_loss"]
        for entry in json.loads((folder / "training.json").read_text())
        if "eval_loss" in entry
    ]
    assert losses[-1] < losses[0]
    card = (folder / "README.md").read_text()
    assert str(small_index.level_sizes) in card
    model = GenerativeModel.load(folder, device=CPU)
    assert model.facts["trained_parameters"] < model.facts["parameters"]
    assert model.facts["score"] == "exact"
    texts = model.tokenizer.convert_ids_to_tokens(model.vocabulary.tokens(small_index.codes)[0])
    assert texts == ["<a_0>", "<b_0>"]


@pytest.mark.parametrize("changes", [{}, ENCODER_DECODER], ids=["decoder", "encoder-decoder"])
def test_item_vectors_are_distilled_and_the_projection_is_dropped(run_folder, changes):
    learning = changes | {"epochs": 8, "patience": 9}
    plain = train.run(run_folder, recipe(**learning), RUNTIME)
    size = (plain / "model.safetensors").stat().st_size
    digest = artifacts.sha256_of(plain / "model.safetensors")
    folder = train.run(run_folder, recipe(**learning, distillation_weight=0.3), RUNTIME)
    log = json.loads((folder / "training.json").read_text())
    told = [entry for entry in log if "loss" in entry]
    for entry in told:
        assert entry["loss"] == pytest.approx(
            entry["loss_codes"] + entry["loss_distillation"], rel=1e-4
        )
    assert told[-1]["loss_distillation"] < 0.8 * told[0]["loss_distillation"]
    assert (folder / "model.safetensors").stat().st_size == size
    assert artifacts.sha256_of(folder / "model.safetensors") != digest
    assert not list(folder.rglob("beside*"))
    GenerativeModel.load(folder, device=CPU)


def test_codes_without_vectors_have_nothing_to_distil(run_folder):
    (run_folder / "index" / "fusion.safetensors").unlink()
    manifest = run_folder / "index" / "manifest.json"
    body = json.loads(manifest.read_text())
    del body["files"]["fusion.safetensors"]
    manifest.write_text(json.dumps(body))
    with pytest.raises(ConfigError, match="were not made from vectors"):
        train.run(run_folder, recipe(distillation_weight=0.5), RUNTIME)


@pytest.mark.parametrize("form", ["stream", "instruction", "encoder-decoder"])
def test_the_log_counts_every_token_that_is_read(form, run_folder, small_index, tmp_path):
    """All histories have six training items of two codes, and fill a batch of ten rows."""
    changes = {"max_steps": 3, "evaluations": 1, "crop_probability": 0.0, "item_dropout": 0.0}
    if form == "encoder-decoder":
        changes["scratch"] = SCRATCH | {"architecture": "encoder_decoder"}
    if form == "instruction":
        changes |= {"form": form, "language_model": str(tiny_language_model(tmp_path, small_index))}
    folder = train.run(run_folder, recipe(**changes, batch_tokens=120), RUNTIME)
    prompts = GenerativeModel.load(folder, device=CPU).prompts
    # Rows are as wide as if every item of the history had what stands between two.
    words = len(prompts.before) + len(prompts.after) + 5 * len(prompts.between)
    row = {
        "stream": 6 * 2,  # the start and all codes but the last
        "instruction": words + 5 * 2 + 1,  # the prompt with five items, and a code of the sixth
        "encoder-decoder": words + 5 * 2 + 2,  # the same for the encoder; start and code
    }[form]
    log = json.loads((folder / "training.json").read_text())
    read = [entry["tokens_read"] for entry in log if "tokens_read" in entry]
    assert read[-1] == 3 * 10 * row


def test_new_rows_start_from_the_codebooks_of_the_index(tmp_path, cycle_dataset, small_index):
    from genrec.tokenization.residual_kmeans import ResidualKMeans

    source = tiny_language_model(tmp_path / "lm", small_index)
    # So small a step leaves the rows where they start.
    settings = {"language_model": str(source), "max_steps": 1, "learning_rate": 1e-12}
    bare = make_run(tmp_path / "bare", cycle_dataset, small_index)
    with pytest.raises(ConfigError, match="holds no codebooks"):
        train.run(bare, recipe(**settings, new_rows="codebook"), RUNTIME)
    vectors = np.random.default_rng(1).normal(size=(len(small_index), 5)).astype(np.float32)
    quantizer = ResidualKMeans(2, 4).fit(vectors)
    with artifacts.writing(tmp_path / "full" / "index", "index") as partial:
        small_index.save(partial)
        quantizer.save(partial)
    with artifacts.writing(tmp_path / "full" / "dataset", "dataset") as partial:
        cycle_dataset.save(partial)
    folder = train.run(tmp_path / "full", recipe(**settings, new_rows="codebook"), RUNTIME)
    model = GenerativeModel.load(folder, device=CPU)
    rows = model.language_model.get_input_embeddings().weight.detach().float()
    old = rows[: model.vocabulary.first_token]
    words = model.tokenizer(cycle_dataset.catalog.titles, add_special_tokens=False)["input_ids"]
    expected = NEW_ROWS["codebook"](
        Given(old, words, small_index, RUNTIME.seed, quantizer.codebooks)
    )
    # The model is kept in bfloat16, which has 8 significant bits.
    torch.testing.assert_close(rows[len(old) :], expected, rtol=2**-8, atol=1e-6)


def test_a_pretrained_encoder_decoder_is_refused(run_folder, small_index, tmp_path):
    model, tokenizer, _ = encoder_decoder_from_scratch(
        small_index, hidden=16, layers=1, heads=2, feed_forward=32, dropout=0.1
    )
    model.save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    with pytest.raises(ConfigError, match="trained from scratch only"):
        train.run(run_folder, recipe(language_model=str(tmp_path / "t5")), RUNTIME)


def test_a_cut_off_checkpoint_is_passed_over(tmp_path):
    from genrec.training.checkpoints import last_checkpoint

    for step, text in ((9, "{}"), (10, '{"cut off'), (2, "{}")):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(text)
    (tmp_path / "checkpoint-11").mkdir()
    assert Path(last_checkpoint(tmp_path) or "").name == "checkpoint-9"
    assert last_checkpoint(tmp_path / "nothing") is None


def test_clear_errors(run_folder, tmp_path):
    with pytest.raises(DependencyError, match="language_model"):
        train.run(run_folder, recipe(language_model=str(tmp_path)), RUNTIME)
    with pytest.raises(ConfigError, match="multiple of twice"):
        train.run(run_folder, recipe(scratch={**SCRATCH, "hidden": 30, "heads": 4}), RUNTIME)
    with pytest.raises(ConfigError, match="multiple of the heads"):
        odd = SCRATCH | {"architecture": "encoder_decoder", "hidden": 30, "heads": 4}
        train.run(run_folder, recipe(scratch=odd), RUNTIME)
    with pytest.raises(ConfigError, match="codes only"):
        train.run(run_folder, recipe(**ENCODER_DECODER, form="instruction"), RUNTIME)
    with pytest.raises(ConfigError, match="streams only"):
        train.run(run_folder, recipe(form="instruction", teacher_weight=0.5), RUNTIME)
    with pytest.raises(ConfigError, match="distilled into streams only"):
        train.run(run_folder, recipe(form="instruction", distillation_weight=0.5), RUNTIME)
    with pytest.raises(ArtifactError, match="cf"):
        train.run(run_folder, recipe(teacher_weight=0.5), RUNTIME)
    (run_folder / "index" / "codes.safetensors").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="changed or damaged"):
        train.run(run_folder, recipe(), RUNTIME)
