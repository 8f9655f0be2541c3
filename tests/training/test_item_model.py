"""Stage items, with tiny models: one that reads, one that sees."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch
from peft import load_peft_weights, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import Qwen2VLForConditionalGeneration

from genrec import artifacts
from genrec.config import Recipe
from genrec.data.catalog import Catalog
from genrec.data.dataset import Dataset
from genrec.embeddings.image_files import open_images
from genrec.embeddings.kept_pictures import KeptPictures, keep_pictures
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ArtifactError, ConfigError, DataError, DependencyError
from genrec.model.item_reader import Picture
from genrec.runtime import Runtime
from genrec.training import item_model as stage
from genrec.training import item_training
from genrec.training.item_tasks import ItemWords, item_pieces
from tests.embeddings.pictures import as_bytes, picture
from tests.stopping import stop_at
from tests.training.reading_models import WORDS, causal, seeing
from tests.training.world import with_other_held_out

CPU = Runtime(device="cpu", threads=1, quiet=True, dtype="float32")
SETTINGS = {
    "examples": 24,
    "epochs": 2,
    "batch_size": 4,
    "learning_rate": 1e-2,
    "max_tokens": 64,
    "max_history": 3,
    "image_tokens": 2,
    "lora": {"rank": 4, "alpha": 8, "dropout": 0.1},
}
# Two thirds of the items have a picture, all but one a text.
SEEN = [row for row in range(24) if row % 3]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {"causal": str(causal(folder / "causal")), "seeing": str(seeing(folder / "seeing"))}


@pytest.fixture
def run_folder(tmp_path, cycle_dataset):
    folder = tmp_path / "run"
    table = cycle_dataset.catalog.table.with_columns(
        text=pl.Series([f"thing number {row} red" if row else "" for row in range(24)]),
        description=pl.Series([f"blue {row}" if row else "" for row in range(24)]),
    )
    world = Dataset(
        Catalog(table),
        cycle_dataset.user_ids,
        cycle_dataset.interactions,
        cycle_dataset.part,
        {},
    )
    with artifacts.writing(folder / "dataset", "dataset") as partial:
        world.save(partial)
    (tmp_path / "files").mkdir()
    for row in SEEN:
        (tmp_path / "files" / f"{row}.png").write_bytes(as_bytes(picture(row, (16, 8 + row))))
    vectors = np.random.default_rng(0).normal(size=(24, 5)).astype(np.float32)
    vectors[[row for row in range(24) if row not in SEEN]] = 0
    with artifacts.writing(
        folder / "image", "image", inputs={"dataset": folder / "dataset"}
    ) as partial:
        EmbeddingTable(vectors, {}).save(partial)
        names = {row: f"{row}.png" for row in SEEN}
        keep_pictures(partial, open_images(tmp_path / "files"), names)
    return folder


def recipe(model, image=True, **keys):
    named = {"image": {"path": "files", "keep": True}} if image else {}
    return Recipe(item_model={**SETTINGS, "language_model": model, **keys}, **named)


def digests(folder):
    files = artifacts.read_manifest(folder).files
    return {name: value for name, value in files.items() if name.endswith(".safetensors")}


@pytest.mark.parametrize("kind", ["causal", "seeing"])
def test_the_stage_learns_the_tasks_and_gives_every_item_a_vector(
    run_folder, models, kind, monkeypatch
):
    monkeypatch.setattr(item_training, "EVERY", 15)
    folder = stage.run(run_folder, recipe(models[kind], epochs=4), CPU)
    manifest = artifacts.verify(folder, "item_model")
    assert set(manifest.inputs) == {"dataset", "image"}
    table = EmbeddingTable.load(folder)
    assert table.vectors.shape == (24, 16)
    # Item 0 has neither text nor picture.
    assert not table.vectors[0].any()
    np.testing.assert_allclose(np.linalg.norm(table.vectors[1:], axis=1), 1, atol=1e-5)
    assert table.origin["unknown"] == 1
    assert table.origin["with_image"] == len(SEEN)
    log = json.loads((folder / "training.json").read_text())
    tasks = {"image_text", "attributes", "next_item"}
    assert set(log[-1]) == {"step", "cut"} | tasks
    assert all(log[-1][task] < 0.8 * log[0][task] for task in tasks)
    assert not (run_folder / "item_model.checkpoint").exists()
    # The adapter and the heads are all it takes to get the vectors again.
    reader, soft, adapted = stage.build(recipe(models[kind]).item_model, run_folder / "image", CPU)
    soft.detach_from(reader.model)
    set_peft_model_state_dict(adapted, load_peft_weights(str(folder / "adapter"), device="cpu"))
    soft.load_state_dict(load_file(folder / "heads.safetensors"), strict=False)
    soft.attach(reader.model)
    texts = ItemWords.of(Dataset.load(run_folder / "dataset").catalog)
    again = stage.read_items(reader, texts, 4)
    np.testing.assert_allclose(again.vectors, table.vectors, atol=1e-5)


def test_merged_gives_the_vectors_of_the_adapter(run_folder, models):
    reader, soft, adapted = stage.build(
        recipe(models["causal"]).item_model, run_folder / "image", CPU
    )
    for name, weight in reader.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    texts = ItemWords.of(Dataset.load(run_folder / "dataset").catalog)
    before = stage.read_items(reader, texts, 4).vectors
    soft.detach_from(reader.model)
    reader.model = adapted.merge_and_unload()
    soft.attach(reader.model)
    np.testing.assert_allclose(stage.read_items(reader, texts, 4).vectors, before, atol=1e-5)


def test_losses_are_those_of_the_answer_alone(run_folder, models):
    reader, _, _ = stage.build(recipe(models["causal"]).item_model, run_folder / "image", CPU)
    reader.model.eval()
    given = (Picture(1), "Title: thing number 1", "\nThe description of the item:")
    short = ("Title: thing number 2",)
    batch = [reader.encode(given, " blue 7"), reader.encode(short, " red")]
    assert batch[0].tokens[batch[0].mark] == len(WORDS)
    # Two soft tokens of item 1, each past the mark.
    assert batch[0].tokens[:2] == [len(WORDS) + 1 + 2, len(WORDS) + 1 + 3]
    answer = [WORDS.index("blue"), WORDS.index("7"), 0]
    assert batch[0].tokens[batch[0].mark + 1 :] == answer
    with torch.inference_mode():
        logits = reader.model(input_ids=torch.tensor([batch[0].tokens])).logits[0]
        logs = logits.log_softmax(-1)
        places = range(batch[0].mark, batch[0].mark + 3)
        expected = -np.mean(
            [logs[at, word].item() for at, word in zip(places, answer, strict=True)]
        )
        together = reader.loss(batch)
    assert together[0].item() == pytest.approx(expected, rel=1e-4)
    assert together.shape == (2,)


def test_a_vision_language_model_sees_what_its_own_forward_shows(run_folder, models):
    """The vector is the state of the mark when the model is given pixels by hand."""
    reader, _, _ = stage.build(recipe(models["seeing"]).item_model, run_folder / "image", CPU)
    reader.model.eval()
    example = reader.encode((Picture(1), "Title: thing number 1"))
    image = KeptPictures(run_folder / "image")[1]
    plain = Qwen2VLForConditionalGeneration.from_pretrained(models["seeing"]).eval()
    from transformers import AutoImageProcessor

    pixels = AutoImageProcessor.from_pretrained(models["seeing"])(
        images=[image], return_tensors="pt"
    )
    patches = int(pixels["image_grid_thw"].prod()) // 4
    assert example.tokens[: patches + 2] == [2, *[4] * patches, 3]
    ids = torch.tensor([example.tokens])
    words = plain.get_input_embeddings()
    mark = reader.model.soft_tokens.source("mark").look_up(torch.tensor([0]))[0][0]
    plain.resize_token_embeddings(len(WORDS) + 1, mean_resizing=False)
    with torch.inference_mode():
        words = plain.get_input_embeddings()
        words.weight[len(WORDS)] = mark
        states = plain(
            input_ids=ids,
            mm_token_type_ids=(ids == 4).int(),
            output_hidden_states=True,
            **pixels,
        ).hidden_states[-1][0, example.mark]
    expected = states.numpy() / np.linalg.norm(states.numpy())
    # Beside a longer example, which puts padding after this one.
    others = reader.encode((Picture(2), "Title: thing number 2", Picture(4)))
    got = reader.vectors([example, others])
    np.testing.assert_allclose(got[0], expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["causal", "seeing"])
def test_a_stopped_tuning_goes_on_to_the_same_vectors(run_folder, models, kind, monkeypatch):
    monkeypatch.setattr(item_training, "EVERY", 3)
    settings = recipe(models[kind], examples=6)
    whole = digests(stage.run(run_folder, settings, CPU))
    assert any("adapter" in name for name in whole)
    shutil.rmtree(run_folder / "item_model")
    stop_at(monkeypatch, item_training, "_step", 5)
    with pytest.raises(KeyboardInterrupt):
        stage.run(run_folder, settings, CPU)
    assert not (run_folder / "item_model").exists()
    assert digests(stage.run(run_folder, settings, CPU)) == whole


def test_held_out_events_change_nothing(run_folder, models):
    """A planted leak: other held-out items must leave what is tuned as it is."""
    settings = recipe(models["causal"], image=False, tasks=["next_item"])
    first = digests(stage.run(run_folder, settings, CPU))
    planted = with_other_held_out(Dataset.load(run_folder / "dataset"))
    with artifacts.writing(run_folder / "dataset", "dataset") as partial:
        planted.save(partial)
    assert digests(stage.run(run_folder, settings, CPU)) == first


def test_tasks_can_be_left_out_and_no_pictures_are_needed(run_folder, models, caplog):
    shutil.rmtree(run_folder / "image")
    with caplog.at_level("INFO"):
        folder = stage.run(run_folder, recipe(models["causal"], image=False), CPU)
    assert set(artifacts.read_manifest(folder).inputs) == {"dataset"}
    assert "the task image_text has no example, for no item has a picture and" in caplog.text
    log = json.loads((folder / "training.json").read_text())
    assert set(log[-1]) == {"step", "cut", "attributes", "next_item"}
    folder = stage.run(run_folder, recipe(models["causal"], image=False, tasks=[]), CPU)
    assert json.loads((folder / "training.json").read_text()) == []
    assert EmbeddingTable.load(folder).vectors[1:].any(axis=1).all()


def test_only_adapters_mark_and_projection_learn(run_folder, models):
    for kind in ("causal", "seeing"):
        reader, _, _ = stage.build(recipe(models[kind]).item_model, run_folder / "image", CPU)
        trained = [name for name, p in reader.model.named_parameters() if p.requires_grad]
        assert all("lora_" in name or "soft_tokens" in name for name in trained)
        soft = {name.split("soft_tokens.")[1] for name in trained if "soft_tokens" in name}
        of_image = ("sources.1.projection",) if kind == "causal" else ()
        for source in ("sources.0.projection", *of_image):
            assert any(name.startswith(source) for name in soft)
        assert not any("visual" in name for name in trained)
        assert any("lora_" in name for name in trained)


def test_long_examples_lose_the_end_of_a_text_or_the_oldest_items(run_folder, models):
    reader, _, _ = stage.build(
        recipe(models["causal"], max_tokens=20).item_model, run_folder / "image", CPU
    )
    long = reader.encode((Picture(1), "Title: thing", " ".join(["red"] * 50), " The item"))
    assert long.cut
    assert len(long.tokens) == 20
    assert long.pictures == [1]
    words = [WORDS[token] for token in long.tokens[2:-1]]
    assert words[:3] == ["Title", ":", "thing"]
    assert words[-2:] == ["The", "item"]
    history = [piece for row in range(1, 12) for piece in (f"Item: {row}", Picture(row))]
    many = reader.encode((*history, " The item"), " thing number 3")
    assert many.cut
    assert len(many.tokens) <= 20
    assert many.pictures == list(range(12 - len(many.pictures), 12))
    assert not reader.encode(("Title: thing",)).cut


def test_what_cannot_be_read_is_refused(run_folder, models, tmp_path, monkeypatch):
    with pytest.raises(DependencyError, match="item_model.language_model"):
        stage.run(run_folder, recipe(str(tmp_path / "none")), CPU)
    inputs = {"dataset": run_folder / "dataset"}
    with artifacts.writing(run_folder / "image", "image", inputs=inputs) as partial:
        (partial / "x").write_text("x")
    with pytest.raises(ArtifactError, match="image.keep: true"):
        stage.run(run_folder, recipe(models["seeing"]), CPU)
    with pytest.raises(ArtifactError, match="a causal language model reads pictures as vectors"):
        stage.run(run_folder, recipe(models["causal"]), CPU)
    monkeypatch.setattr(item_training, "_share", lambda *_: float("nan"))
    with pytest.raises(ConfigError, match=r"no longer finite at step 2 of .*learning_rate \(now"):
        stage.run(run_folder, recipe(models["causal"], image=False), CPU)
    assert not (run_folder / "item_model").exists()
    bare = Dataset.load(run_folder / "dataset")
    empty = bare.catalog.table.with_columns(text=pl.lit(""), description=pl.lit(""))
    with artifacts.writing(run_folder / "dataset", "dataset") as partial:
        Dataset(Catalog(empty), bare.user_ids, bare.interactions, bare.part, {}).save(partial)
    with pytest.raises(DataError, match="no item has a text or a picture"):
        stage.run(run_folder, recipe(models["causal"], image=False, tasks=[]), CPU)
    with pytest.raises(DataError, match="no task has an example"):
        stage.run(run_folder, recipe(models["causal"], image=False, tasks=["attributes"]), CPU)


def test_a_picture_that_leaves_no_room_is_named(run_folder, models):
    reader, _, _ = stage.build(
        recipe(models["seeing"], max_tokens=16).item_model, run_folder / "image", CPU
    )
    with pytest.raises(ConfigError, match="raise it, or use smaller pictures"):
        reader.encode((Picture(23), "Title: thing"), " red blue red blue red blue red blue")


def test_pieces_of_every_item_fit(run_folder, models):
    reader, _, _ = stage.build(recipe(models["seeing"]).item_model, run_folder / "image", CPU)
    texts = ItemWords.of(Dataset.load(run_folder / "dataset").catalog)
    for row in range(1, 24):
        assert reader.encode(item_pieces(row, texts, reader.pictures)).tokens[-1] == reader.mark


def test_a_gradient_that_is_no_number_stops_before_it_changes_a_weight(
    run_folder, models, monkeypatch
):
    honest, calls = stage.ItemReader.loss, []

    def spoiled(self, encoded):
        calls.append(1)
        losses = honest(self, encoded)
        weight = next(p for p in self.model.parameters() if p.requires_grad)
        return losses + (weight.sum() * 0).sqrt() if len(calls) == 3 else losses

    monkeypatch.setattr(stage.ItemReader, "loss", spoiled)
    with pytest.raises(ConfigError, match=r"The gradient .* no longer finite at step 3 of"):
        stage.run(run_folder, recipe(models["causal"], image=False), CPU)


def test_examples_that_had_to_be_cut_are_counted(run_folder, models, caplog):
    settings = recipe(models["causal"], image=False, max_tokens=16, tasks=["next_item"], epochs=1)
    folder = stage.run(run_folder, settings, CPU)
    log = json.loads((folder / "training.json").read_text())
    assert sum(entry["cut"] for entry in log) == 24
    assert "24 examples were longer than item_model.max_tokens (16)" in caplog.text


def test_more_tokens_than_the_model_reads_are_refused(run_folder, models):
    with pytest.raises(ConfigError, match="item_model.max_tokens is 4096, but .* reads"):
        stage.run(run_folder, recipe(models["causal"], image=False, max_tokens=4096), CPU)
