"""The image stage, with tiny random encoders."""

import shutil

import numpy as np
import polars as pl
import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from genrec import artifacts
from genrec.config import Recipe
from genrec.embeddings import image as stage
from genrec.embeddings.image_encoder import load_image_encoder
from genrec.embeddings.kept_pictures import KeptPictures
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ArtifactError, ConfigError, DataError
from genrec.runtime import Runtime
from tests.embeddings.item_dataset import write_dataset
from tests.embeddings.pictures import as_bytes, picture, write_tar

CPU = Runtime(device="cpu", quiet=True)
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
         "intermediate_size": 32}  # fmt: skip
EYES = SMALL | {"image_size": 16, "patch_size": 8}


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    ViTModel(ViTConfig(**EYES), add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2, "a": 3}
    text = SMALL | {"vocab_size": 4, "max_position_embeddings": 8, "bos_token_id": 0,
                    "eos_token_id": 1, "pad_token_id": 1}  # fmt: skip
    CLIPModel(CLIPConfig(text_config=text, vision_config=EYES, projection_dim=12)).save_pretrained(
        folder
    )
    eyes = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    CLIPProcessor(
        image_processor=eyes, tokenizer=CLIPTokenizer(vocab=words, merges=[])
    ).save_pretrained(folder)
    return folder


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def load(method, folder, **keys):
    return load_image_encoder(method, model=str(folder), revision=None, **keys)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_states_of_an_encoder_are_pooled(vit, pooling):
    pictures = [picture(0), picture(1, (40, 10))]
    given = ViTImageProcessor.from_pretrained(vit)(images=pictures, return_tensors="pt")
    with torch.inference_mode():
        states = ViTModel.from_pretrained(vit, add_pooling_layer=False)(**given).last_hidden_state
    expected = states.mean(1) if pooling == "mean" else states[:, 0]
    encoder = load("vision", vit, pooling=pooling)
    np.testing.assert_allclose(encoder.encode(pictures), unit(expected.numpy()), atol=1e-5)
    assert encoder.facts["pooling"] == pooling
    assert len(encoder.facts["weights_digest"]) == 64


def test_a_model_with_image_vectors_of_its_own_gives_those(clip):
    pictures = [picture(0), picture(1)]
    given = CLIPImageProcessor.from_pretrained(clip)(images=pictures, return_tensors="pt")
    model = CLIPModel.from_pretrained(clip).eval()
    with torch.inference_mode():
        seen = model.vision_model(pixel_values=given["pixel_values"]).pooler_output
        expected = model.visual_projection(seen).numpy()
    np.testing.assert_allclose(load("vision", clip).encode(pictures), unit(expected), atol=1e-5)
    pytest.importorskip("sentence_transformers")
    by_sentences = load("sentence_transformer", clip).encode(pictures)
    np.testing.assert_allclose(by_sentences, unit(expected), atol=1e-5)


def test_a_model_that_reads_no_images_is_refused(vit, tmp_path):
    for path in vit.iterdir():
        if path.name != "preprocessor_config.json":
            shutil.copy(path, tmp_path)
    with pytest.raises(ConfigError, match="cannot be loaded as an image encoder"):
        load("vision", tmp_path)
    with pytest.raises(ConfigError, match="image.method is vision, but image.model is not set"):
        load_image_encoder("vision", model=None, revision=None)


@pytest.fixture
def run_folder(tmp_path):
    """Items i0 to i5; i2's file is damaged, i4 has none, i5's is too large."""
    write_dataset(tmp_path / "dataset", ["a"] * 6)
    files = {f"posters/i{row}.png": as_bytes(picture(row)) for row in (0, 1, 3)}
    files["posters/i2.png"] = as_bytes(picture(2))[:100]
    files["posters/i5.png"] = as_bytes(picture(5, (100, 100)))
    write_tar(tmp_path / "posters.tar", files)
    return tmp_path


def recipe(folder, model, **keys):
    settings = {"path": str(folder / "posters.tar"), "model": str(model), "max_pixels": 5000}
    return Recipe(image=settings | keys)


def test_the_stage_gives_vectors_and_sets_aside_what_it_cannot_read(run_folder, vit):
    folder = stage.run(run_folder, recipe(run_folder, vit, keep=True), CPU)
    manifest = artifacts.verify(folder, "image")
    assert set(manifest.inputs) == {"dataset"}
    table = EmbeddingTable.load(folder)
    expected = load("vision", vit).encode([picture(row) for row in (0, 1, 3)])
    np.testing.assert_allclose(table.vectors[[0, 1, 3]], expected, atol=1e-6)
    assert not table.vectors[[2, 4, 5]].any()
    assert table.origin["images"] == 3
    assert table.origin["without_image"] == 3
    aside = pl.read_parquet(folder / "quarantined.parquet")
    assert aside["item_id"].to_list() == ["i2", "i5"]
    assert aside["file"].to_list() == ["posters/i2.png", "posters/i5.png"]
    assert "100 x 100 pixels" in aside["reason"][1]
    kept = KeptPictures(folder)
    assert [row in kept for row in range(6)] == [True, True, False, True, False, False]
    np.testing.assert_array_equal(np.asarray(kept[3]), np.asarray(picture(3)))
    assert not (run_folder / "image.checkpoint").exists()


def test_a_stopped_job_goes_on_where_it_was(run_folder, vit, monkeypatch):
    monkeypatch.setattr(stage, "CHUNK", 2)
    whole = artifacts.read_manifest(stage.run(run_folder, recipe(run_folder, vit), CPU)).digest
    shutil.rmtree(run_folder / "image")
    read, seen = stage.read_picture, []

    def stops(files, name, **limits):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(name)
        return read(files, name, **limits)

    monkeypatch.setattr(stage, "read_picture", stops)
    with pytest.raises(KeyboardInterrupt):
        stage.run(run_folder, recipe(run_folder, vit), CPU)
    assert not (run_folder / "image").exists()
    again = []
    monkeypatch.setattr(
        stage,
        "read_picture",
        lambda files, name, **limits: (again.append(name), read(files, name, **limits))[1],
    )
    folder = stage.run(run_folder, recipe(run_folder, vit), CPU)
    assert artifacts.read_manifest(folder).digest == whole
    assert again == ["posters/i2.png", "posters/i3.png", "posters/i5.png"]


def test_files_named_by_a_column(tmp_path, vit):
    write_dataset(tmp_path / "dataset", ["b.png", "", "gone.png"])
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "b.png").write_bytes(as_bytes(picture(0)))
    wanted = recipe(tmp_path, vit, path=str(tmp_path / "pictures"), file_column="text")
    folder = stage.run(tmp_path, wanted, CPU)
    assert EmbeddingTable.load(folder).vectors.any(axis=1).tolist() == [True, False, False]
    aside = pl.read_parquet(folder / "quarantined.parquet").to_dicts()
    assert aside == [{"item_id": "i2", "file": "gone.png", "reason": "is not there"}]
    with pytest.raises(ConfigError, match="items have the columns item_id, title, text"):
        stage.run(tmp_path, recipe(tmp_path, vit, path=str(tmp_path), file_column="poster"), CPU)


def test_given_vectors_are_taken_at_length_one(tmp_path):
    write_dataset(tmp_path / "dataset", ["a", "b", "c"])
    table = pl.DataFrame({"item_id": ["i2", "i0"], "vector": [[3.0, 4.0], [0.0, 2.0]]})
    table.write_parquet(tmp_path / "v.parquet")
    given = Recipe(image={"vectors": str(tmp_path / "v.parquet")})
    vectors = EmbeddingTable.load(stage.run(tmp_path, given, CPU)).vectors
    np.testing.assert_allclose(vectors, [[0, 1], [0, 0], [0.6, 0.8]], rtol=1e-6)


def test_pictures_may_be_kept_without_vectors(run_folder, vit):
    folder = stage.run(run_folder, recipe(run_folder, "", method="none", keep=True), CPU)
    assert not (folder / "vectors.safetensors").exists()
    assert 3 in KeptPictures(folder)
    stage.run(run_folder, recipe(run_folder, vit), CPU)
    with pytest.raises(ArtifactError, match="image.keep: true"):
        KeptPictures(run_folder / "image")


def test_recipes_that_make_no_sense_are_refused(run_folder, vit):
    path = str(run_folder / "posters.tar")
    for settings, words in (
        ({}, "names no images"),
        ({"path": path, "vectors": "v.npy"}, "both set"),
        ({"path": path, "method": "none"}, "nothing would be made"),
        ({"vectors": "v.npy", "keep": True}, "no pictures to keep"),
    ):
        with pytest.raises(ConfigError, match=words):
            stage.run(run_folder, Recipe(image=settings), CPU)


def test_no_picture_at_all_is_an_error_that_shows_names(run_folder, vit):
    write_tar(run_folder / "posters.tar", {"x.png": as_bytes(picture(0))})
    with pytest.raises(DataError, match=r"such as \['x.png'\]\).*such as 'i0'"):
        stage.run(run_folder, recipe(run_folder, vit), CPU)
    write_tar(run_folder / "posters.tar", {"i0.png": b"x"})
    with pytest.raises(DataError, match="none of the 1 pictures"):
        stage.run(run_folder, recipe(run_folder, vit), CPU)
