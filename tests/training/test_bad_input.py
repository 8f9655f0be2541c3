"""What people give that cannot be trained on, or not as it is: a defined answer to each."""

import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from peft import PeftModel
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from genrec import artifacts
from genrec.data.catalog import Catalog
from genrec.data.dataset import Dataset
from genrec.decoding.ranker import GenerativeRanker
from genrec.errors import ArtifactError, ConfigError
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import add_codes, load_pretrained
from genrec.semantic_ids.item_index import ItemIndex
from genrec.training import lesson, train
from genrec.training.batches import BatchPlan
from genrec.training.objectives import Objective
from tests.training.bridged_run import write_run
from tests.training.world import (
    RUNTIME,
    WORDS,
    make_run,
    recipe,
    save_tokenizer,
    tiny_language_model,
)

CPU = torch.device("cpu")
HISTORY = np.arange(7, dtype=np.int32)
SHORT = {"epochs": 2, "evaluations": 1}


@pytest.fixture
def run_folder(tmp_path, cycle_dataset, small_index):
    return make_run(tmp_path / "run", cycle_dataset, small_index)


def served(folder):
    """Return the model and what it recommends after a history."""
    model = GenerativeModel.load(folder, device=CPU)
    return model, GenerativeRanker(model, beam=10).rank([HISTORY], 10)[0]


def test_items_without_text(tmp_path, cycle_dataset, small_index):
    title = pl.when(pl.int_range(pl.len()) % 2 == 1).then(pl.lit("")).otherwise(pl.col("title"))
    half = Catalog(cycle_dataset.catalog.table.with_columns(title=title))
    assert half.titles.count("") == 12
    dataset = type(cycle_dataset)(
        half, cycle_dataset.user_ids, cycle_dataset.interactions, cycle_dataset.part, {}
    )
    run = make_run(tmp_path / "run", dataset, small_index)
    source = tiny_language_model(tmp_path / "lm", small_index)
    settings = recipe(language_model=str(source), max_steps=2, evaluations=1)
    model, ranking = served(train.run(run, settings, RUNTIME))
    assert len(ranking.items) == 10
    assert model.language_model.get_input_embeddings().weight.isfinite().all()


def tiny_gpt2(folder, positions):
    """Write a model that has no place beyond its context, and no padding token."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(WORDS), n_positions=positions, n_embd=16, n_layer=1, n_head=2,
        bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    save_tokenizer(folder, bos_token="<start>", eos_token="<start>")
    return folder


@pytest.mark.parametrize("form", ["stream", "instruction"])
def test_prompts_longer_than_the_context_lose_their_oldest_items(
    run_folder, tmp_path, caplog, form
):
    # A start, five items and an answer of two codes each; with words, 16 more and one an item.
    words = {"stream": 0, "instruction": 16 + 5}[form]
    source = tiny_gpt2(tmp_path / "lm", 1 + 2 * 5 + 2 + words)
    changes = {"crop_probability": 0, "item_dropout": 0, "form": form, **SHORT}
    folder = train.run(run_folder, recipe(language_model=str(source), **changes), RUNTIME)
    model, ranking = served(folder)
    assert model.prompts.max_history == 5
    # All 60 users have six training items, so each loses one.
    assert model.facts["context_users_cut"] == 60
    assert model.facts["context_items_dropped"] == 60
    assert "60 users are cut, and their 60 oldest items are dropped" in caplog.text
    assert len(ranking.items) == 10
    # What is beyond the newest five plays no part.
    again = GenerativeRanker(model, beam=10).rank([HISTORY[-5:]], 10)[0]
    np.testing.assert_array_equal(again.items, ranking.items)


def test_items_that_vectors_beside_them_crowd_out_are_counted(
    tmp_path, cycle_dataset, small_index, caplog
):
    source = tiny_gpt2(tmp_path / "lm", 1 + 2 * 5 + 2 + 16 + 5)
    run = write_run(tmp_path / "run", cycle_dataset, small_index)
    changes = {"form": "instruction", "bridge": {"items": True}, **SHORT}
    folder = train.run(run, recipe(language_model=str(source), **changes), RUNTIME)
    model, _ = served(folder)
    # Five items fit without their vectors; four with them would take 35 of the 34 tokens.
    assert model.prompts.max_history == model.facts["context_max_history"] == 3
    assert model.facts["context_users_cut"] == 60
    assert model.facts["context_items_dropped"] == 60 * 3
    assert "60 users are cut, and their 180 oldest items are dropped" in caplog.text


def test_a_context_without_room_for_an_item_is_refused(run_folder, tmp_path):
    source = tiny_gpt2(tmp_path / "lm", 20)
    with pytest.raises(ConfigError, match=r"reads 20 tokens .* choose another"):
        train.run(run_folder, recipe(language_model=str(source), form="instruction"), RUNTIME)


def test_a_teacher_of_another_dataset_is_refused(run_folder, tmp_path, cycle_dataset, small_index):
    other = make_run(tmp_path / "other", cycle_dataset, small_index)
    (run_folder / "other").mkdir()
    with artifacts.writing(run_folder / "other" / "dataset", "dataset") as partial:
        (partial / "something.txt").write_text("else")
    with artifacts.writing(
        other / "cf", "cf", inputs={"dataset": run_folder / "other" / "dataset"}
    ) as partial:
        (partial / "sasrec.safetensors").write_bytes(b"")
    shutil.copytree(other / "cf", run_folder / "cf")
    digest = artifacts.read_manifest(run_folder / "dataset").digest[:12]
    with pytest.raises(ArtifactError, match=f"made from dataset .* is {digest}"):
        train.run(run_folder, recipe(teacher_weight=0.5), RUNTIME)


@pytest.mark.parametrize("form", ["stream", "instruction"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_base_model_without_padding_with_and_without_a_tied_head(
    run_folder, tmp_path, tied, form
):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, tie_word_embeddings=tied, pad_token_id=None, bos_token_id=1,
        eos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "lm")
    save_tokenizer(tmp_path / "lm", bos_token="<start>")
    settings = recipe(language_model=str(tmp_path / "lm"), form=form, **SHORT)
    model, ranking = served(train.run(run_folder, settings, RUNTIME))
    assert model.tokenizer.pad_token_id is None
    head = model.language_model.get_output_embeddings().weight
    assert (head is model.language_model.get_input_embeddings().weight) == tied
    assert len(ranking.items) == 10


def test_an_adapter_and_a_tuned_model_are_no_base_models(run_folder, tmp_path, small_index):
    source = tiny_language_model(tmp_path / "lm", small_index)
    settings = recipe(language_model=str(source), max_steps=1, evaluations=1)
    tuned = train.run(run_folder, settings, RUNTIME).rename(tmp_path / "tuned")
    with pytest.raises(ConfigError, match=r"is an adapter, made for .* \(.*lm\)"):
        train.run(run_folder, recipe(language_model=str(tuned / "adapter")), RUNTIME)
    with pytest.raises(ConfigError, match="already has tokens that look like item codes"):
        train.run(run_folder, recipe(language_model=str(tuned)), RUNTIME)


def planted(monkeypatch, at, plant):
    """Let ``plant`` change the loss of one step of the training."""
    honest, calls = Objective.losses, 0

    def losses(self, items):
        nonlocal calls
        calls += 1
        found = honest(self, items)
        return {"codes": plant(self, found["codes"])} if calls == at else found

    monkeypatch.setattr(Objective, "losses", losses)


def spoiled_loss(_objective, loss):
    return loss * float("nan")


def spoiled_gradient(objective, loss):
    # The root has an infinite slope at 0, and infinity times 0 is no number.
    return loss + (next(objective.model.parameters()).sum() * 0).sqrt()


@pytest.mark.parametrize(
    ("plant", "words"),
    [(spoiled_loss, "the loss is nan"), (spoiled_gradient, "the length of the gradient is nan")],
)
def test_a_loss_that_is_no_number_stops_and_says_where(
    run_folder, cycle_dataset, monkeypatch, plant, words
):
    plans = []

    def make_plan(*arguments, **settings):
        plans.append(BatchPlan(*arguments, **settings))
        return plans[-1]

    monkeypatch.setattr(lesson, "BatchPlan", make_plan)
    planted(monkeypatch, 10, plant)
    settings = recipe(max_steps=16, evaluations=4)
    with pytest.raises(ConfigError, match=f"{words} at step 10") as caught:
        train.run(run_folder, settings, RUNTIME)
    listed = str(caught.value).split("batch of users ")[1].split(" (rows")[0]
    first = [int(user) for user in listed.split(" and ")[0].split(", ")]
    _, histories = plans[0].histories(9)
    assert len(first) == min(10, len(histories))
    sequences = cycle_dataset.sequences()
    whole = {int(user): set(sequences[row].tolist()) for row, user in enumerate(sequences.user)}
    assert all(any(set(items.tolist()) <= whole[user] for items in histories) for user in first)
    good = run_folder / "model.checkpoint" / "checkpoint-8"
    assert str(good) in str(caught.value)
    assert not (run_folder / "model").exists()
    from safetensors.torch import load_file

    for name in ("trained.safetensors", "average.safetensors"):
        assert all(value.isfinite().all() for value in load_file(good / name).values())
    # Once the cause is gone, it goes on from there.
    monkeypatch.undo()
    log = json.loads((train.run(run_folder, settings, RUNTIME) / "training.json").read_text())
    assert max(entry["step"] for entry in log) == 16


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: torch.empty(2**50),
        lambda: np.empty(2**50),
        lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory.")),
    ],
    ids=["torch", "numpy", "gpu"],
)
def test_out_of_memory_says_what_is_needed_and_what_to_lower(run_folder, monkeypatch, allocate):
    planted(monkeypatch, 2, lambda _objective, _loss: next(allocate(), None))
    with pytest.raises(ConfigError) as caught:
        train.run(run_folder, recipe(), RUNTIME)
    message = str(caught.value)
    for words in ("not enough memory", "weights", "optimizer", "activations", "MiB"):
        assert words in message
    assert "Lower train.batch_tokens" in message


def test_other_errors_are_not_taken_for_a_lack_of_memory(run_folder, monkeypatch):
    def fail(_objective, _loss):
        raise RuntimeError("shapes do not match")

    planted(monkeypatch, 2, fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        train.run(run_folder, recipe(), RUNTIME)


def test_a_gradient_beside_the_model_that_is_no_number_stops_as_well(run_folder, monkeypatch):
    def spoiled_beside(objective, loss):
        return loss + (objective.dense.learner.user.weight.sum() * 0).sqrt()

    planted(monkeypatch, 3, spoiled_beside)
    dense = {"weight": 1.0, "vectors": None}
    with pytest.raises(ConfigError, match="gradient beside the model is nan at step 3") as caught:
        train.run(run_folder, recipe(max_steps=4, evaluations=1, dense=dense), RUNTIME)
    assert "lower train.learning_rate (now 0.01)" in str(caught.value)


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_comes_back_from_its_folder_as_it_was_trained(run_folder, tmp_path, tied):
    """Adapter on its base and merged folder say the same, whether the head is tied or not."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, tie_word_embeddings=tied, pad_token_id=0, bos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "lm")
    save_tokenizer(tmp_path / "lm", bos_token="<start>", pad_token="<pad>")
    settings = recipe(language_model=str(tmp_path / "lm"), **SHORT)
    exact = replace(RUNTIME, dtype="float32")
    folder = train.run(run_folder, settings, exact)
    base, tokenizer = load_pretrained(str(tmp_path / "lm"), revision=None, dtype=torch.float32)
    titles = Dataset.load(run_folder / "dataset").catalog.titles
    add_codes(base, tokenizer, ItemIndex.load(run_folder / "index"), titles, seed=0)
    adapted = PeftModel.from_pretrained(base, folder / "adapter").eval()
    merged = GenerativeModel.load(folder, device=torch.device("cpu")).language_model
    tokens = torch.arange(len(tokenizer))[None]
    with torch.no_grad():
        want = adapted(tokens).logits
        torch.testing.assert_close(merged(tokens).logits, want, atol=1e-5, rtol=1e-5)
