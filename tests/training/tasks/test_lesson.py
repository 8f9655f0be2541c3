"""The recipe lcrec at tiny size: what it learns, keeps, logs and refuses."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import PeftModel

from genrec import artifacts
from genrec.config import Recipe
from genrec.decoding.ranker import GenerativeRanker
from genrec.decoding.text_ranker import TextRanker
from genrec.errors import ConfigError
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import add_codes, load_pretrained
from genrec.pipeline import states
from genrec.recipe_file import load_recipe
from genrec.runtime import Runtime
from genrec.training import train
from tests.model.words import letter_model
from tests.stopping import stop_at
from tests.training.tasks.test_plan import rows
from tests.training.tasks.world import catalog, codes, dataset, item_index
from tests.training.world import make_run

CPU = torch.device("cpu")
RUNTIME = Runtime(device="cpu", dtype="float32", threads=1, quiet=True)
FAMILIES = {
    "next_item", "text_to_item", "item_to_text", "history_to_title", "history_to_description",
    "titles_to_item", "search", "preference",
}  # fmt: skip


def lcrec(folder, **changes):
    """The recipe as it is shipped, with a tiny model and few steps."""
    recipe = load_recipe("lcrec")
    body = recipe.train.model_dump(mode="json")
    tiny = {
        "language_model": str(folder), "max_steps": 8, "batch_tokens": 800, "evaluations": 2,
        "validation_users": 8, "task_examples": 6, "max_history": 4,
    }  # fmt: skip
    return Recipe(train={**body, **tiny, **changes})


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return letter_model(tmp_path_factory.mktemp("lm") / "letters")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model_folder):
    run = make_run(tmp_path_factory.mktemp("run") / "lcrec", dataset(), item_index())
    return train.run(run, lcrec(model_folder), RUNTIME)


def test_every_task_is_in_the_log_with_its_losses_and_lists(trained):
    log = json.loads((trained / "training.json").read_text())
    seen = set().union(*log)
    assert {f"eval_loss_{task}" for task in FAMILIES} <= seen
    assert {f"eval_ndcg@10_{task}" for task in ("next_item", "titles_to_item", "search")} <= seen
    assert not any(name.startswith("eval_ndcg@10_preference") for name in seen)
    # The curriculum is about codes and texts alone.
    first = next(entry for entry in log if "loss" in entry)
    assert {name for name in first if name.startswith("loss_")} <= {
        "loss_text_to_item", "loss_item_to_text",
    }  # fmt: skip
    assert {"loss_next_item", "loss_search"} <= seen
    assert all(entry["tokens_per_second"] > 0 for entry in log if "tokens_per_second" in entry)
    assert "| loss_search |" in (trained / "README.md").read_text()


def test_the_folder_says_what_it_was_trained_on_and_answers_words(trained):
    model = GenerativeModel.load(trained, device=CPU)
    assert model.facts["score"] == "exact"
    tasks = model.facts["tasks"]
    assert set(tasks["sequences"]) == FAMILIES
    assert tasks["shortened"] == 0
    assert set(model.prompts.templates.tasks) == FAMILIES
    ranker = TextRanker(GenerativeRanker(model, beam=12))
    [ranking] = ranker.search(["a pot by Bel"], 12)
    assert sorted(ranking.items.tolist()) == list(range(12))
    assert len(ranker.after_titles([["Ora tea 0", "Bel pot 1"]], 3)[0].items) == 3


def test_merged_equals_the_adapter(trained, model_folder):
    model, tokenizer = load_pretrained(str(model_folder), revision=None, dtype=torch.float32)
    add_codes(model, tokenizer, item_index(), catalog().titles, seed=RUNTIME.seed)
    adapted = PeftModel.from_pretrained(model, trained / "adapter").eval()
    merged = GenerativeModel.load(trained, device=CPU).language_model
    tokens = torch.tensor([[1, *codes(3), 40, 50, *codes(7), 60]])
    with torch.no_grad():
        torch.testing.assert_close(
            adapted(tokens).logits, merged(tokens).logits, atol=1e-5, rtol=1e-5
        )


def test_resumed_equals_uninterrupted(trained, model_folder, tmp_path, monkeypatch):
    """Stopped in its second validation, so that it goes on from the checkpoint of the first."""
    run = make_run(tmp_path / "stopped", dataset(), item_index())
    calls = stop_at(monkeypatch, train, "validate", 2)
    with pytest.raises(KeyboardInterrupt):
        train.run(run, lcrec(model_folder), RUNTIME)
    assert not (run / "model").exists()
    assert list((run / "model.checkpoint").glob("checkpoint-*/trainer_state.json"))
    torch.manual_seed(99)
    resumed = train.run(run, lcrec(model_folder), RUNTIME)
    # One validation before the stop, the one that was stopped, and the one that was left.
    assert len(calls) == 3
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        assert artifacts.sha256_of(resumed / name) == artifacts.sha256_of(trained / name)


class Stopped(Exception):
    pass


def test_texts_of_items_without_training_events_are_not_trained_on(
    tmp_path, model_folder, monkeypatch
):
    """No event names item 11; the stage itself must leave it out, as its plan is told to."""
    data, make, made = dataset(), train.mixture_lesson, []
    events = data.interactions
    events = replace(events, item=np.minimum(events.item, 10))
    run = make_run(tmp_path / "run", replace(data, interactions=events), item_index())

    def stop(*arguments):
        made.append(make(*arguments))
        raise Stopped

    monkeypatch.setattr(train, "mixture_lesson", stop)
    tasks = [{"name": "next_item"}, {"name": "text_to_item", "weight": 2.0}]
    with pytest.raises(Stopped):
        train.run(run, lcrec(model_folder, max_steps=-1, curriculum=[], tasks=tasks), RUNTIME)
    answers = {tokens[-2:] for task, tokens in rows(made[0].plan) if task == "text_to_item"}
    assert answers == {tuple(codes(row)) for row in range(11)}


def test_other_templates_make_the_model_stale_and_start_anew(tmp_path, model_folder):
    own = tmp_path / "my.yaml"
    own.write_text('tasks: {next_item: [{prompt: "{history}>"}]}')
    recipe = lcrec(
        model_folder, templates=str(own), max_steps=1, evaluations=1, curriculum=[],
        tasks=[{"name": "next_item"}],
    )  # fmt: skip
    run = make_run(tmp_path / "run", dataset(), item_index())
    folder = train.run(run, recipe, RUNTIME)
    assert GenerativeModel.load(folder, device=CPU).prompts.texts.after == ">"
    [before] = [state for state in states(run, recipe) if state.stage.verb == "train"]
    assert not any("my.yaml" in reason for reason in before.reasons)
    own.write_text('tasks: {next_item: [{prompt: "{history}|"}]}')
    # Changed while the training ran, so its time is before that of the model folder.
    os.utime(own, (1, 1))
    [after] = [state for state in states(run, recipe) if state.stage.verb == "train"]
    assert any("my.yaml was changed" in reason for reason in after.reasons)


def test_a_mixture_learns_and_a_stream_can_be_part_of_it(tmp_path):
    recipe = lcrec(
        letter_model(tmp_path / "lm", hidden=32), form="stream", max_steps=250, epochs=100,
        batch_tokens=400, curriculum=[], learning_rate=1e-2, row_learning_rate=5e-2,
        tasks=[{"name": "stream"}, {"name": "search", "weight": 0.3}],
    )  # fmt: skip
    run = make_run(tmp_path / "run", dataset(), item_index())
    folder = train.run(run, recipe, RUNTIME)
    log = json.loads((folder / "training.json").read_text())
    losses = [entry["loss_stream"] for entry in log if "loss_stream" in entry]
    # The first of five items can be any of 12, which costs log 12 nats over ten codes.
    assert losses[0] > 2
    assert np.log(12) / 10 < losses[-1] < 0.8
    model = GenerativeModel.load(folder, device=CPU)
    assert model.prompts.form == "stream"
    assert model.facts["score"] == "exact"
    held_out = dataset().histories("validation")
    seen = [held_out[user] for user in range(len(held_out))]
    rankings = GenerativeRanker(model, beam=12).rank(seen, 1, exclude=seen)
    right = [
        int(ranking.items[0]) == target
        for ranking, target in zip(rankings, held_out.target, strict=True)
    ]
    # One of the seven items that are left is right by chance.
    assert np.mean(right) > 0.6


def test_a_short_context_drops_the_oldest_items_and_says_so(tmp_path, caplog):
    folder = letter_model(tmp_path / "lm", context=120)
    run = make_run(tmp_path / "run", dataset(), item_index())
    recipe = lcrec(
        folder, max_steps=2, evaluations=1, max_history=40, curriculum=[],
        tasks=[{"name": "next_item"}, {"name": "titles_to_item"}],
    )  # fmt: skip
    made = train.run(run, recipe, RUNTIME)
    facts = GenerativeModel.load(made, device=CPU).facts
    assert facts["context_tokens"] == 120
    assert facts["tasks"]["items_dropped"] >= facts["tasks"]["shortened"] > 0
    assert "reads 120 tokens" in caplog.text
    assert "oldest items are left out" in caplog.text


def test_texts_come_from_a_language_model_when_one_is_named(tmp_path, model_folder):
    run = make_run(tmp_path / "run", dataset(), item_index())
    recipe = lcrec(
        model_folder, max_steps=1, evaluations=1, curriculum=[], text_writer=str(model_folder),
        task_texts={"writer_tokens": 8},
        tasks=[{"name": "next_item"}, {"name": "search"}, {"name": "preference"}],
    )  # fmt: skip
    folder = train.run(run, recipe, RUNTIME)
    lines = (run / "written_texts.jsonl").read_text().splitlines()
    histories = {tuple(row) for row in dataset().interactions.item.reshape(30, -1)[:, 1:5].tolist()}
    recent = {row[-3:] for row in histories}
    # One text an item, one a history of four items and one for its newest three.
    assert len(lines) == 12 + len(histories) + len(recent)
    assert GenerativeModel.load(folder, device=CPU).facts["tasks"]["text_writer"]
    before = (run / "written_texts.jsonl").stat().st_mtime_ns
    train.run(run, recipe, RUNTIME)
    assert (run / "written_texts.jsonl").stat().st_mtime_ns == before
    # Another model under the same name writes anew.
    letter_model(other := tmp_path / "other")
    own = recipe.model_copy(
        update={"train": recipe.train.model_copy(update={"text_writer": str(other)})}
    )
    train.run(run, own, RUNTIME)
    written = (run / "written_texts.jsonl").read_text().count("\n")
    (other / "generation_config.json").write_text("{}")
    train.run(run, own, RUNTIME)
    assert (run / "written_texts.jsonl").read_text().count("\n") > written


TASK = {"name": "next_item"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": [TASK, TASK]}, "names next_item more than once"),
        ({"language_model": None}, "knows words"),
        ({"form": "stream"}, "so stream is what is served"),
        ({"tasks": [{"name": "stream"}]}, "so next_item is what is served"),
        ({"curriculum": [{"tasks": ["stream"], "share": 0.1}]}, "train.curriculum\\[0\\].tasks"),
        ({"curriculum": [{"tasks": ["search"], "share": 0.5}] * 2}, "add up to 1"),
        ({"teacher_weight": 0.5}, "teacher works with streams only"),
        (
            {"form": "stream", "tasks": [{"name": "stream"}], "curriculum": [],
             "teacher_weight": 0.5},
            "train.tasks are given, but a teacher",
        ),
        ({"tasks": []}, "train.curriculum given without train.tasks"),
        ({"templates": "nothing.yaml"}, "cannot be read"),
        ({"task_texts": {"facet_columns": ["colour"]}}, "facet_columns names colour"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(tmp_path, model_folder, changes, words):
    run = make_run(tmp_path / "run", dataset(), item_index())
    with pytest.raises(ConfigError, match=words):
        train.run(run, lcrec(model_folder, **changes), RUNTIME)


@pytest.mark.parametrize("name", ["lcrec", "lcrec-gpu"])
def test_the_recipes_name_all_six_families(name):
    config = load_recipe(name).train
    assert {share.name for share in config.tasks} == FAMILIES
    assert config.form == "instruction"
