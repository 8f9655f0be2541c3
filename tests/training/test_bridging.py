"""Training, saving and serving with a bridge, in every form, against embeddings made by hand."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from genrec import Recommender, artifacts
from genrec.config import Recipe
from genrec.data.catalog import Catalog
from genrec.decoding.engine import TorchEngine
from genrec.decoding.ranker import GenerativeRanker
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ArtifactError, ConfigError, DataError
from genrec.model.bridge import BridgedPrompts
from genrec.model.code_head import CodeHead
from genrec.model.generation import with_generation
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import item_token_table
from genrec.runtime import Runtime
from genrec.semantic_ids.item_index import ItemIndex
from genrec.serving.engines import load_ranker
from genrec.training import train
from genrec.training.batches import IGNORED
from genrec.training.objectives import Objective
from tests.stopping import stop_at
from tests.tiny_run import invoke
from tests.tiny_run import trained as trained_run
from tests.training.bridged_run import user_model, write_run
from tests.training.world import SCRATCH, tiny_language_model

CPU = torch.device("cpu")
RUNTIME = Runtime(device="cpu", dtype="float32", threads=1, quiet=True)
BOTH = {"items": True, "user": True}
FORMS = ("stream", "stream on a language model", "instruction")


def recipe(form, folder, index, **changes):
    settings = {
        "form": form.split()[0],
        "scratch": SCRATCH,
        "epochs": 4,
        "batch_tokens": 160,
        "learning_rate": 1e-2,
        "evaluations": 2,
        "max_history": 8,
        "bridge": BOTH,
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.0},
    }
    if form != "stream":
        settings["language_model"] = str(tiny_language_model(folder / "lm", index))
    return Recipe(train={**settings, **changes})


@pytest.fixture(scope="module", params=FORMS)
def trained(request, tmp_path_factory, module_dataset, module_index):
    folder = tmp_path_factory.mktemp("bridged")
    run = write_run(folder / "run", module_dataset, module_index)
    settings = recipe(request.param, folder, module_index)
    train.run(run, settings, RUNTIME)
    return run, settings


def by_hand(model, run, history, *, user=True):
    """Return the embeddings of a prompt, float32[T, hidden], from the files of the model folder."""
    state = load_file(run / "model" / "bridge.safetensors")
    words = model.language_model.get_input_embeddings().weight
    joint = EmbeddingTable.load(run / "joint").vectors

    def project(source, vector, activation):
        get = lambda name: state[f"sources.{source}.projection.{name}"]  # noqa: E731
        x = torch.tensor(np.array(vector)) @ get("enter.weight").T + get("enter.bias")
        x = torch.nn.functional.layer_norm(x, x.shape, get("norm.weight"), get("norm.bias"))
        return activation(x) @ get("leave.weight").T + get("leave.bias")

    def item(row):
        return project(0, joint[row], torch.nn.functional.gelu)

    def of_user(rows):
        rows = np.asarray(rows, dtype=np.int32)
        state = cf.user_vectors([rows])[0]
        return project(1, state, torch.nn.functional.leaky_relu)

    cf = user_model("sasrec", len(model.catalog))
    codes = item_token_table(model.vocabulary, model.index)
    read, prompts = list(history)[-model.prompts.max_history :], model.prompts
    if prompts.form == "instruction":
        parts = [words[token] for token in prompts.before]
        for place, row in enumerate(read):
            between = prompts.between if place else ()
            parts += [words[token] for token in (*between, *codes[row])] + [item(row)]
        parts += [words[token] for token in prompts.before_user] + [of_user(read)]
        return torch.stack([*parts, *(words[token] for token in prompts.after)])
    # SASRec counts places from the newest item, so a place on the way is that of a whole pass.
    rows, lengths = cf.network.pad([np.asarray(read, dtype=np.int32)])
    states = cf.network(rows, lengths)[0].detach().numpy()
    users = [project(1, each, torch.nn.functional.leaky_relu) for each in states]
    parts = [words[prompts.before[0]] + users[0]]
    for row, state_after in zip(read, users[1:], strict=True):
        parts += [words[token] for token in codes[row]]
        parts[-1] = parts[-1] + item(row) + state_after
    return torch.stack(parts)


@torch.no_grad()
def brute_force(model, run, history):
    """Return the score of every item: the sum of its codes' log-probabilities, one pass an item."""
    prompt = by_hand(model, run, history)
    words = model.language_model.get_input_embeddings().weight
    codes = item_token_table(model.vocabulary, model.index)
    scores = []
    for row in range(len(model.catalog)):
        inputs = torch.cat([prompt, words[torch.tensor(codes[row][:-1])]])
        logits = model.language_model(inputs_embeds=inputs[None]).logits[0, -len(codes[row]) :]
        total = 0.0
        for level, token in enumerate(codes[row]):
            span = model.vocabulary.level_range(level)
            known = logits[level, span.start : span.stop]
            if model.facts["score"] == "exact":
                known = logits[level]
            own = logits[level, token]
            total += float(own - torch.logsumexp(known, 0))
        scores.append(total)
    return np.asarray(scores)


@pytest.mark.parametrize("cache", [0, 2**20])
def test_the_search_finds_what_brute_force_over_hand_made_embeddings_finds(trained, cache):
    run, _ = trained
    for source in (0, 1):
        learned = load_file(run / "model" / "bridge.safetensors")
        assert learned[f"sources.{source}.projection.leave.weight"].abs().max() > 1e-3
    model = GenerativeModel.load(run / "model", device=CPU)
    engine = TorchEngine(model, prefix_cache_bytes=cache)
    ranker = GenerativeRanker(model, beam=24, engine=engine, new_item_weight=0.0)
    # With a cache later histories begin like earlier ones, and the second user is not the first.
    for history in ([], [3], [3, 4, 9], [3, 4, 9, 10], [5, 4, 9, 10], list(range(11))):
        [ranking] = ranker.rank([np.asarray(history, dtype=np.int32)], 24)
        scores = brute_force(model, run, history)
        np.testing.assert_allclose(ranking.scores, np.sort(scores)[::-1], atol=2e-4)
        np.testing.assert_allclose(scores[ranking.items], ranking.scores, atol=2e-4)


def test_other_engines_refuse_a_bridge(trained):
    run, _ = trained
    with pytest.raises(ConfigError, match="set runtime.engine to torch"):
        load_ranker(run / "model", Runtime(device="cpu", engine="vllm"))


def test_what_is_loaded_equals_what_was_saved_and_the_folder_serves_alone(trained, tmp_path):
    run, _ = trained
    model = GenerativeModel.load(run / "model", device=CPU)
    with artifacts.writing(tmp_path / "again", "model") as partial:
        model.save(partial)
    assert (tmp_path / "again" / "bridge.safetensors").read_bytes() == (
        run / "model" / "bridge.safetensors"
    ).read_bytes()
    names = load_file(run / "model" / "model.safetensors")
    assert not [name for name in names if "soft" in name]
    assert hasattr(model.language_model, "soft_tokens")
    history = [["i3", "i4", "i9"]]
    answers = [
        Recommender.from_pretrained(folder, device="cpu").recommend(history, k=5)[0].items
        for folder in (run / "model", tmp_path / "again")
    ]
    assert [(item.item_id, item.score) for item in answers[0]] == [
        (item.item_id, item.score) for item in answers[1]
    ]


def test_validation_in_training_is_that_of_the_merged_model(trained, module_dataset):
    """What the trainer saw with adapters is what the folder does."""
    run, settings = trained
    model = GenerativeModel.load(run / "model", device=CPU)
    objective = Objective(
        model=model.language_model,
        head=CodeHead(model.language_model, model.vocabulary),
        prompts=model.prompts,
        item_tokens=torch.from_numpy(item_token_table(model.vocabulary, model.index)),
        pad_token=model.pad_token,
    )
    found = train.validate(model, objective, module_dataset.histories("validation"))
    log = json.loads((run / "model" / "training.json").read_text())
    best = max((entry for entry in log if "eval_loss" in entry), key=lambda e: e["eval_ndcg@10"])
    assert found["loss"] == pytest.approx(best["eval_loss"], abs=1e-3)
    assert found["ndcg@10"] == pytest.approx(best["eval_ndcg@10"], abs=1e-3)


def test_training_reads_streams_as_serving_does(trained):
    """The state before the last item is that after the prompt of the items before it."""
    run, _ = trained
    model = GenerativeModel.load(run / "model", device=CPU)
    table = torch.from_numpy(item_token_table(model.vocabulary, model.index))
    objective = Objective(
        model=model.language_model,
        head=CodeHead(model.language_model, model.vocabulary),
        prompts=model.prompts,
        item_tokens=table,
        pad_token=model.pad_token,
    )
    items = torch.tensor([[3, 4, 9, 2], [7, 8, IGNORED, IGNORED], [5, IGNORED, IGNORED, IGNORED]])
    with torch.no_grad():
        states, last = objective.last_states(items)
        for row, history in enumerate(([3, 4, 9], [7], [])):
            prompt = by_hand(model, run, history)
            expected = model.language_model.base_model(inputs_embeds=prompt[None])
            torch.testing.assert_close(
                states[row, 0], expected.last_hidden_state[0, -1], rtol=1e-3, atol=1e-4
            )
    assert last.tolist() == [2, 8, 5]


def test_items_of_a_generation_get_the_vectors_of_their_like(trained, tmp_path):
    run, _ = trained
    old = GenerativeModel.load(run / "model", device=CPU)
    # Item 3 goes, and two come: one at its codes, one whose last code only item 3 had below 0.
    keep = [row for row in range(24) if row != 3]
    codes = np.vstack([old.index.codes[keep], [0, 3], [5, 3]]).astype(np.int32)
    new = pl.DataFrame({"item_id": ["n0", "n1"], "title": ["", ""], "text": ["", ""]})
    root = old.facts["index_digest"]
    with artifacts.writing(
        tmp_path / "1", "index", facts={"generation": 1, "root": root}
    ) as partial:
        ItemIndex(codes, (6, 4), {}, shared=True).save(partial)
        Catalog(pl.concat([old.catalog.table[keep], new])).save(partial)
    history = np.asarray([4, 9, 10], dtype=np.int32)
    [expected] = GenerativeRanker(old, beam=24, new_item_weight=0.0).rank([history], 24)
    grown = with_generation(old, tmp_path / "1")
    assert grown.bridge is not None
    ranker = GenerativeRanker(grown, beam=25, new_item_weight=0.0)
    [found] = ranker.rank([history - 1], 25)
    scores = {int(row): float(score) for row, score in zip(*_pairs(found), strict=True)}
    for row, score in zip(*_pairs(expected), strict=True):
        assert scores[23 if row == 3 else int(row) - int(row > 3)] == pytest.approx(score, abs=1e-4)
    # The user's vector passes over items that SASRec never saw; the prompt does not.
    with_new = np.asarray([3, 23, 8, 9], dtype=np.int32)
    states = grown.bridge.user_states([with_new, history - 1], on_the_way=False)
    np.testing.assert_allclose(states[0], states[1], atol=1e-6)
    on_the_way = grown.bridge.user_states([with_new, history - 1], on_the_way=True)
    np.testing.assert_allclose(on_the_way[0][[0, 1, 3, 4]], on_the_way[1], atol=1e-6)
    np.testing.assert_array_equal(on_the_way[0][1], on_the_way[0][2])
    assert len(ranker.rank([with_new], 5)[0].items) == 5


def _pairs(ranking):
    return ranking.items.tolist(), ranking.scores.tolist()


@pytest.mark.parametrize("form", FORMS)
def test_a_resumed_training_gives_the_weights_of_an_uninterrupted_one(
    form, tmp_path, cycle_dataset, small_index, monkeypatch
):
    settings = recipe(form, tmp_path, small_index, max_steps=6, evaluations=3)
    straight = write_run(tmp_path / "straight", cycle_dataset, small_index)
    train.run(straight, settings, RUNTIME)
    stopped = write_run(tmp_path / "stopped", cycle_dataset, small_index)
    calls = stop_at(monkeypatch, train, "validate", 2)
    with pytest.raises(KeyboardInterrupt):
        train.run(stopped, settings, RUNTIME)
    assert list((stopped / "model.checkpoint").glob("checkpoint-2/trainer_state.json"))
    train.run(stopped, settings, RUNTIME)
    assert len(calls) == 4
    for name in ("model.safetensors", "bridge.safetensors"):
        assert artifacts.sha256_of(stopped / "model" / name) == artifacts.sha256_of(
            straight / "model" / name
        )


@pytest.mark.parametrize("name", ["sasrec", "transition_sasrec", "lightgcn", "bpr"])
@pytest.mark.parametrize("bridge", [{"user": True}, {"items": True, "vectors": "cf"}])
def test_any_cf_model_and_either_side_alone(name, bridge, tmp_path, cycle_dataset, small_index):
    run = write_run(tmp_path / "run", cycle_dataset, small_index, name)
    settings = recipe("stream", tmp_path, small_index, bridge=bridge, max_steps=2, evaluations=1)
    train.run(run, settings, RUNTIME)
    alone = (run / "model").rename(tmp_path / "elsewhere")
    [answer] = Recommender.from_pretrained(alone, device="cpu").recommend([["i3", "i4"]], k=5)
    assert len(answer.items) == 5
    assert (alone / f"{name}.safetensors").is_file() == ("user" in bridge)
    read = GenerativeModel.load(alone, device=CPU).bridge
    model = user_model(name, len(cycle_dataset.catalog))
    if "user" in bridge:
        histories = [np.asarray(rows, dtype=np.int32) for rows in ([3, 4], [7])]
        found = np.concatenate(read.user_states(histories, on_the_way=False))
        np.testing.assert_allclose(found, model.user_vectors(histories), atol=1e-6)
    else:
        vectors = model.items if name in ("lightgcn", "bpr") else model.item_vectors()
        np.testing.assert_allclose(read.soft.source("items").vectors, vectors, atol=1e-6)


def test_a_stream_starts_as_the_model_without_a_bridge(tmp_path, cycle_dataset, small_index):
    scores = []
    for name, bridge in (("with", BOTH), ("without", {})):
        run = write_run(tmp_path / name, cycle_dataset, small_index)
        settings = recipe(
            "stream", tmp_path, small_index, bridge=bridge, max_steps=1, learning_rate=1e-12
        )
        train.run(run, settings, RUNTIME)
        model = GenerativeModel.load(run / "model", device=CPU)
        assert isinstance(model.prompts, BridgedPrompts) == (name == "with")
        [ranking] = GenerativeRanker(model).rank([np.asarray([3, 4], dtype=np.int32)], 5)
        scores.append(ranking.scores)
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)


def test_a_frozen_language_model_learns_projections_and_code_rows_only(
    tmp_path, cycle_dataset, small_index, monkeypatch
):
    bridge, start = train.with_bridge, {}

    def keep(*given, **settings):
        learner = bridge(*given, **settings)
        model = learner.model.language_model
        start["codes"] = model.get_input_embeddings().weight[-10:].detach().clone()
        start["soft"] = {
            name: p.detach().clone() for name, p in model.soft_tokens.named_parameters()
        }
        return learner

    monkeypatch.setattr(train, "with_bridge", keep)
    run = write_run(tmp_path / "run", cycle_dataset, small_index)
    settings = recipe(
        "instruction", tmp_path, small_index, bridge={**BOTH, "frozen": True}, max_steps=3
    )
    train.run(run, settings, RUNTIME)
    before = load_file(tmp_path / "lm" / "model.safetensors")
    after = load_file(run / "model" / "model.safetensors")
    words = len(before["model.embed_tokens.weight"])
    for name, value in before.items():
        torch.testing.assert_close(after[name][: len(value)], value, rtol=0, atol=0)
    assert len(after["model.embed_tokens.weight"]) == words + 10
    moved = after["model.embed_tokens.weight"][words:] != start["codes"]
    assert moved.any(1).all()
    soft = load_file(run / "model" / "bridge.safetensors")
    assert all(not torch.equal(soft[name], value) for name, value in start["soft"].items())


def test_the_command_makes_joint_vectors_and_serves_the_bridge(tmp_path):
    run = trained_run(tmp_path / "run", "train.bridge.items=true", "train.bridge.user=true")
    assert set(artifacts.read_manifest(run / "model").inputs) == {"dataset", "index", "cf", "joint"}
    assert (
        "joint vectors of items and vectors of users by sasrec"
        in (run / "model" / "README.md").read_text()
    )
    done = invoke("recommend", run, "-q")
    assert done.exit_code == 0, done.stderr
    assert "align: fresh" in invoke("run", run, "--dry-run").stderr


def test_clear_errors(tmp_path, cycle_dataset, small_index):
    run = write_run(tmp_path / "run", cycle_dataset, small_index)
    other = write_run(tmp_path / "other", cycle_dataset, small_index)
    long = recipe("stream", tmp_path, small_index, max_history=11)
    with pytest.raises(ConfigError, match="cf.max_history"):
        train.run(run, long, RUNTIME)
    settings = recipe("stream", tmp_path, small_index)
    encoder = recipe(
        "stream", tmp_path, small_index, scratch=SCRATCH | {"architecture": "encoder_decoder"}
    )
    with pytest.raises(ConfigError, match="decoder-only"):
        train.run(run, encoder, RUNTIME)
    # Vectors that went wrong, with a manifest that says all is well.
    broken = {"vectors": torch.full((24, 6), torch.nan)}

    shutil.rmtree(run / "joint")
    with artifacts.writing(run / "joint", "joint", inputs={"dataset": run / "dataset"}) as partial:
        save_file(broken, partial / "vectors.safetensors")
        (partial / "vectors.json").write_text("{}")
    with pytest.raises(DataError, match="NaN"):
        train.run(run, settings, RUNTIME)
    # A collaborative table of another dataset.
    table = cycle_dataset.catalog.table.with_columns(pl.lit("x").alias("text"))
    shutil.rmtree(other / "dataset")
    with artifacts.writing(other / "dataset", "dataset") as partial:
        type(cycle_dataset)(
            type(cycle_dataset.catalog)(table),
            cycle_dataset.user_ids,
            cycle_dataset.interactions,
            cycle_dataset.part,
            {},
        ).save(partial)
    with pytest.raises(ArtifactError, match="was made from dataset"):
        train.run(other, settings, RUNTIME)
