"""Stage molar: its folder, what is read, going on after a stop, adapters, serving."""

import shutil
from dataclasses import asdict

import numpy as np
import polars as pl
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from genrec import artifacts
from genrec.cf import epoch_training
from genrec.cf.epoch_training import EpochTraining
from genrec.cf.popularity import Popularity
from genrec.cf.sasrec import SasRec
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.config import Recipe
from genrec.data.dataset import Dataset
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ArtifactError, ConfigError, DataError
from genrec.model.molar import Molar
from genrec.model.user_ranker import UserRanker
from genrec.runtime import Runtime
from genrec.serving.recommender import Recommender
from genrec.training import molar as stage
from tests.stopping import stop_at
from tests.training.world import with_other_held_out

CPU = Runtime(device="cpu", threads=1, quiet=True, dtype="float32")
SMALL = {"hidden": 32, "layers": 1, "heads": 2, "feed_forward": 64, "dropout": 0.0}
SETTINGS = {"scratch": SMALL, "epochs": 3, "batch_items": 100, "learning_rate": 5e-3,
            "max_history": 6}  # fmt: skip
HISTORIES = [np.asarray([5, 6, 7], dtype=np.int32), np.asarray([20], dtype=np.int32)]


@pytest.fixture
def run_folder(tmp_path, cycle_dataset):
    """The world in a circle with SASRec, texts and pictures; item 3 has no picture, 4 no text."""
    folder = tmp_path / "run"
    with artifacts.writing(folder / "dataset", "dataset") as partial:
        cycle_dataset.save(partial)
    inputs = {"dataset": folder / "dataset"}
    generator = np.random.default_rng(0)
    n = len(cycle_dataset.catalog)
    text = generator.normal(size=(n, 6)).astype(np.float32)
    image = generator.normal(size=(n, 5)).astype(np.float32)
    image[3], text[4] = 0, 0
    for name, table in (("text", text), ("image", image)):
        with artifacts.writing(folder / name, name, inputs=inputs) as partial:
            EmbeddingTable(table, {}).save(partial)
    with artifacts.writing(folder / "cf", "cf", inputs=inputs) as partial:
        torch.manual_seed(4)
        SasRecRanker(SasRec(n, dimensions=8, layers=1, heads=2, max_history=6)).save(partial)
        Popularity.fit(cycle_dataset).save(partial)
    return folder


def recipe(**keys):
    return Recipe(molar=SETTINGS | keys)


def weights(folder):
    return {
        name: digest
        for name, digest in artifacts.read_manifest(folder).files.items()
        if name.endswith(".safetensors")
    }


@pytest.mark.parametrize("kind", ["text", "image", "multimodal"])
def test_the_stage_reads_what_it_is_told_and_its_folder_serves_alone(run_folder, kind):
    folder = stage.run(run_folder, recipe(vectors=kind, epochs=60, patience=60), CPU)
    manifest = artifacts.verify(folder, "molar")
    read = {"text", "image"} if kind == "multimodal" else {kind}
    assert set(manifest.inputs) == {"dataset", "cf"} | read
    assert not (run_folder / "molar.checkpoint").exists()
    alone = folder.rename(run_folder.parent / "elsewhere")
    model = Molar.load(alone, device=torch.device("cpu"))
    assert model.facts["vectors"] == kind
    assert model.facts["aligned_with"] == "sasrec"
    recommender = Recommender.from_pretrained(alone, device="cpu")
    answers = recommender.recommend([["i5", "i6", "i7"], []], k=3)
    assert answers[0].items[0].item_id == "i8"
    assert recommender.name == "molar"
    assert answers[0].score == "model"
    assert answers[1].fallback is not None
    assert len(answers[1].items) == 3
    # An item of which nothing is known is not recommended; with a text, a picture is guessed.
    everything = recommender.recommend([["i0"]], k=24)[0]
    named = {item.item_id for item in everything.items}
    missing = {"text": "i4", "image": "i3"}.get(kind)
    assert named == {f"i{row}" for row in range(1, 24)} - {missing}


def test_a_killed_training_goes_on_to_the_same_weights(run_folder, monkeypatch):
    whole = weights(stage.run(run_folder, recipe(), CPU))
    shutil.rmtree(run_folder / "molar")
    calls = stop_at(monkeypatch, epoch_training, "validate", 2)
    with pytest.raises(KeyboardInterrupt):
        stage.run(run_folder, recipe(), CPU)
    assert (run_folder / "molar.checkpoint").exists()
    assert not (run_folder / "molar").exists()
    assert weights(stage.run(run_folder, recipe(), CPU)) == whole
    assert len(calls) == 2 + 2


def test_the_recipe_says_how_it_is_trained():
    changes = {"epochs": 5, "patience": 2, "batch_items": 77, "learning_rate": 0.3,
               "weight_decay": 0.4, "loss": "bce", "alignment_weight": 0.6}  # fmt: skip
    schedule = stage._schedule(Recipe(molar=changes).molar, 9)
    assert asdict(schedule) == changes | {"seed": 9}


def test_without_alignment_no_cf_is_read(run_folder):
    shutil.rmtree(run_folder / "cf")
    folder = stage.run(run_folder, recipe(alignment_weight=0), CPU)
    assert set(artifacts.read_manifest(folder).inputs) == {"dataset", "text"}


@pytest.fixture
def language_model(tmp_path):
    torch.manual_seed(2)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=20, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True,
        )
    ).save_pretrained(tmp_path / "lm")  # fmt: skip
    return str(tmp_path / "lm")


def test_a_pretrained_model_learns_by_adapters_and_merged_is_the_same(
    run_folder, language_model, monkeypatch
):
    kept = {}
    merge = stage.merge

    def keep(wrapped: PeftModel):
        # What the unmerged model says, before it is merged.
        kept["rankings"] = UserRanker(kept["network"]).rank(HISTORIES, 24)
        return merge(wrapped)

    build = stage.build
    monkeypatch.setattr(
        stage, "build", lambda *arguments: kept.setdefault("network", build(*arguments))
    )
    monkeypatch.setattr(stage, "merge", keep)
    folder = stage.run(run_folder, recipe(language_model=language_model), CPU)
    learned = load_file(folder / "adapter" / "adapter_model.safetensors")
    # These start with zeros, with which merged and unmerged are the same whatever merging does.
    assert all(value.any() for name, value in learned.items() if "lora_B" in name)
    again = Molar.load(folder, device=torch.device("cpu"))
    for one, other in zip(
        kept["rankings"], UserRanker(again.network).rank(HISTORIES, 24), strict=True
    ):
        assert one.items.tolist() == other.items.tolist()
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


def test_adapters_resume_to_the_same_weights(run_folder, language_model, monkeypatch):
    settings = recipe(language_model=language_model)
    whole = weights(stage.run(run_folder, settings, CPU))
    assert any(name.startswith("adapter/") for name in whole)
    shutil.rmtree(run_folder / "molar")
    save = EpochTraining._state

    def stops(self):
        if len(self.log) == 2:
            raise KeyboardInterrupt
        return save(self)

    with monkeypatch.context() as patch:
        patch.setattr(EpochTraining, "_state", stops)
        with pytest.raises(KeyboardInterrupt):
            stage.run(run_folder, settings, CPU)
    assert weights(stage.run(run_folder, settings, CPU)) == whole


def test_held_out_events_change_nothing_but_the_choice_of_epoch(run_folder, cycle_dataset):
    first = weights(stage.run(run_folder, recipe(epochs=1), CPU))
    with artifacts.writing(run_folder / "dataset", "dataset") as partial:
        with_other_held_out(cycle_dataset).save(partial)
    inputs = {"dataset": run_folder / "dataset"}
    for name in ("text", "cf"):
        (run_folder / name).rename(run_folder / "old")
        with artifacts.writing(run_folder / name, name, inputs=inputs) as partial:
            for path in (run_folder / "old").iterdir():
                if path.name != artifacts.MANIFEST_NAME:
                    shutil.copy(path, partial)
        shutil.rmtree(run_folder / "old")
    assert weights(stage.run(run_folder, recipe(epochs=1), CPU)) == first


def test_an_item_nobody_chose_is_recommended_by_what_it_is(run_folder, cycle_dataset):
    """A copy of item 8 under another id: its vectors are those of item 8, its events none."""
    n = len(cycle_dataset.catalog)
    table = cycle_dataset.catalog.table
    cold = pl.concat([table, table[8:9].with_columns(pl.lit("cold").alias("item_id"))])
    world = Dataset(
        type(cycle_dataset.catalog)(cold),
        cycle_dataset.user_ids,
        cycle_dataset.interactions,
        cycle_dataset.part,
        {},
    )
    with artifacts.writing(run_folder / "dataset", "dataset") as partial:
        world.save(partial)
    vectors = EmbeddingTable.load(run_folder / "text").vectors[[*range(n), 8]]
    inputs = {"dataset": run_folder / "dataset"}
    with artifacts.writing(run_folder / "text", "text", inputs=inputs) as partial:
        EmbeddingTable(np.asarray(vectors), {}).save(partial)
    folder = stage.run(run_folder, recipe(alignment_weight=0, epochs=60, patience=60), CPU)
    [answer] = Recommender.from_pretrained(folder, device="cpu").recommend(
        [["i5", "i6", "i7"]], k=2
    )
    assert {item.item_id for item in answer.items} == {"i8", "cold"}


def test_inputs_that_do_not_fit_are_refused(run_folder):
    with artifacts.writing(run_folder / "image", "image") as partial:
        (partial / "x").write_text("x")
    with pytest.raises(ArtifactError, match="image was made from dataset None"):
        stage.run(run_folder, recipe(vectors="image"), CPU)
    inputs = {"dataset": run_folder / "dataset"}
    with artifacts.writing(run_folder / "image", "image", inputs=inputs) as partial:
        (partial / "x").write_text("x")
    with pytest.raises(ArtifactError, match=r"holds no vectors: image\.method was none"):
        stage.run(run_folder, recipe(vectors="image"), CPU)
    with artifacts.writing(run_folder / "image", "image", inputs=inputs) as partial:
        EmbeddingTable(np.zeros((24, 3), np.float32), {}).save(partial)
    with pytest.raises(DataError, match="all of them are zero"):
        stage.run(run_folder, recipe(vectors="image"), CPU)
    with artifacts.writing(run_folder / "cf", "cf") as partial:
        (partial / "x").write_text("x")
    with pytest.raises(ArtifactError, match="cf was made from dataset None.*genrec cf"):
        stage.run(run_folder, recipe(), CPU)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")  # said of GPT-2, and put right
def test_a_language_model_with_a_short_context_reads_the_newest_items(run_folder, tmp_path, caplog):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=9, n_positions=4, n_embd=16, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "lm")
    lora = {"rank": 2, "targets": ["c_attn"]}
    settings = recipe(language_model=str(tmp_path / "lm"), lora=lora)
    folder = stage.run(run_folder, settings, CPU)
    # All 60 users have six training items, of which three fit.
    assert "newest 3 items of a history: 60 users are cut, and their 180 oldest" in caplog.text
    model = Molar.load(folder, device=torch.device("cpu"))
    assert model.network.max_history == 3
    assert (model.facts["context_users_cut"], model.facts["context_items_dropped"]) == (60, 180)
    long, short = ([np.asarray(rows, dtype=np.int32)] for rows in ([9, 1, 5, 6, 7], [5, 6, 7]))
    ranker = UserRanker(model.network)
    [one], [other] = ranker.rank(long, 5), ranker.rank(short, 5)
    assert one.items.tolist() == other.items.tolist()


def test_a_language_model_without_room_for_an_item_is_refused(run_folder, tmp_path):
    config = GPT2Config(vocab_size=9, n_positions=1, n_embd=16, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "lm")
    with pytest.raises(ConfigError, match="reads 1 tokens, and an item and the user take two"):
        stage.run(run_folder, recipe(language_model=str(tmp_path / "lm")), CPU)


def test_out_of_memory_says_what_is_needed_and_what_to_lower(run_folder, monkeypatch):
    def fail(*_args, **_options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(stage, "train_users", fail)
    with pytest.raises(ConfigError, match=r"it takes about \d+ MiB \(weights.*Lower molar.batch"):
        stage.run(run_folder, recipe(), CPU)
