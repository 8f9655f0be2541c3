"""A model that reads the item vectors it learns: against embeddings made by hand."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from genrec import artifacts
from genrec.config import Recipe
from genrec.decoding.hybrid_ranker import HybridRanker
from genrec.errors import ConfigError
from genrec.model.generation import with_generation
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import item_token_table
from genrec.semantic_ids.item_index import ItemIndex
from genrec.training import train
from genrec.training.aids import check_aids
from tests.stopping import stop_at
from tests.training.bridged_run import write_run
from tests.training.test_bridging import CPU, FORMS, RUNTIME, recipe

READ = {"bridge": {"items": True, "vectors": "dense"}, "dense": {"weight": 1.0, "dimensions": 5}}


@pytest.fixture(scope="module", params=[*FORMS, "stream without text"])
def trained(request, tmp_path_factory, module_dataset, module_index):
    folder = tmp_path_factory.mktemp("read")
    run = write_run(folder / "run", module_dataset, module_index)
    form, changes = request.param, READ
    if form == "stream without text":
        form, changes = "stream", READ | {"dense": {**READ["dense"], "vectors": None}}
    train.run(run, recipe(form, folder, module_index, **changes), RUNTIME)
    return run


def by_hand(model, run, history):
    """Return the embeddings of a prompt, float32[T, hidden]: what scores an item is read of it."""
    read = load_file(run / "model" / "bridge.safetensors")["sources.0.projection.weight"]
    scored = load_file(run / "model" / "dense.safetensors")["items"]
    words = model.language_model.get_input_embeddings().weight
    codes = item_token_table(model.vocabulary, model.index)
    prompts, parts = model.prompts, [words[token] for token in model.prompts.before]
    for place, row in enumerate(history):
        vector = read @ scored[row]
        own = [words[token] for token in codes[row]]
        if prompts.form == "instruction":
            parts += [words[token] for token in (prompts.between if place else ())]
            parts += [*own, vector]
        else:
            parts += [*own[:-1], own[-1] + vector]
    return torch.stack([*parts, *(words[token] for token in prompts.after)])


def test_serving_reads_the_vectors_that_score_items(trained):
    model = GenerativeModel.load(trained / "model", device=CPU)
    assert load_file(trained / "model" / "dense.safetensors")["items"].shape == (24, 5)
    ranker = HybridRanker(model, beam=24, dense_weight=1.0)
    for history in ([3], [3, 4, 9], [5, 4, 9, 10]):
        [ranking] = ranker.rank([np.asarray(history, dtype=np.int32)], 24)
        with torch.no_grad():
            inputs = by_hand(model, trained, history)[None]
            state = model.language_model.base_model(inputs_embeds=inputs).last_hidden_state[0, -1]
            user = model.dense.user_weight @ state + model.dense.user_bias
            expected = (model.dense.items @ user).log_softmax(0)
        order = torch.argsort(expected, descending=True)
        np.testing.assert_allclose(ranking.scores, expected[order].numpy(), atol=2e-4)
        assert ranking.items.tolist() == order.tolist()


def test_what_the_trainer_saw_is_what_the_folder_does(trained, module_dataset):
    model = GenerativeModel.load(trained / "model", device=CPU)
    histories = module_dataset.histories("validation")
    rows = [histories[row] for row in range(len(histories))]
    lists = HybridRanker(model, beam=10, batch_size=64).rank(rows, 10, exclude=rows)
    places = [
        np.flatnonzero(each.items == target)
        for each, target in zip(lists, histories.target, strict=True)
    ]
    ndcg = sum(1 / np.log2(place[0] + 2) for place in places if len(place)) / len(rows)
    log = json.loads((trained / "model" / "training.json").read_text())
    best = max(entry["eval_ndcg@10"] for entry in log if "eval_ndcg@10" in entry)
    assert ndcg == pytest.approx(best, abs=2e-3)


def test_items_of_a_generation_are_read_as_their_like(trained, tmp_path):
    old = GenerativeModel.load(trained / "model", device=CPU)
    codes = np.vstack([old.index.codes, old.index.codes[3]]).astype(np.int32)
    catalog = old.catalog.table.vstack(
        old.catalog.table[3:4].with_columns(item_id=old.catalog.table["item_id"][3:4] + "new")
    )
    facts = {"generation": 1, "root": old.facts["index_digest"]}
    with artifacts.writing(tmp_path / "1", "index", facts=facts) as partial:
        ItemIndex(codes, (6, 4), {}, shared=True).save(partial)
        type(old.catalog)(catalog).save(partial)
    grown = with_generation(old, tmp_path / "1")
    ranker = HybridRanker(grown, beam=25, new_item_weight=0.0)
    scores = []
    for last in (3, 24):
        [ranking] = ranker.rank([np.asarray([4, 9, last], dtype=np.int32)], 25)
        scores.append(ranking.scores)
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_a_resumed_training_gives_the_weights_of_an_uninterrupted_one(
    form, tmp_path, cycle_dataset, small_index, monkeypatch
):
    settings = recipe(form, tmp_path, small_index, max_steps=6, evaluations=3, **READ)
    straight = write_run(tmp_path / "straight", cycle_dataset, small_index)
    train.run(straight, settings, RUNTIME)
    stopped = write_run(tmp_path / "stopped", cycle_dataset, small_index)
    calls = stop_at(monkeypatch, train, "validate", 2)
    with pytest.raises(KeyboardInterrupt):
        train.run(stopped, settings, RUNTIME)
    train.run(stopped, settings, RUNTIME)
    assert len(calls) == 4
    for name in ("model.safetensors", "bridge.safetensors", "dense.safetensors"):
        assert artifacts.sha256_of(stopped / "model" / name) == artifacts.sha256_of(
            straight / "model" / name
        )


def test_dense_vectors_cannot_be_read_where_none_are_learned():
    with pytest.raises(ConfigError, match="train.dense.weight is 0"):
        check_aids(Recipe(train={"bridge": READ["bridge"]}).train)
