"""New texts in the space of a sentence-transformers model; tf-idf is in test_text."""

import numpy as np
import pytest
import torch
from transformers import BertModel

from genrec.config import EmbedConfig, Recipe
from genrec.embeddings.table import EmbeddingTable
from genrec.embeddings.text import embed_new_texts, run
from genrec.errors import ArtifactError, ConfigError
from genrec.runtime import Runtime
from tests.embeddings import test_sentence
from tests.embeddings.item_dataset import write_dataset

tiny = test_sentence.tiny
CPU = Runtime(device="cpu", quiet=True)


@pytest.fixture
def sentence_run(tiny, tmp_path):
    """A run whose texts were encoded by a copy of the tiny model, and that copy."""
    pytest.importorskip("sentence_transformers")
    model = tmp_path / "model_copy"
    model.mkdir()
    for path in tiny.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    write_dataset(tmp_path / "dataset", ["red lamp", "blue mug"])
    section = EmbedConfig(method="sentence_transformer", model=str(model), prompt="red ")
    run(tmp_path, Recipe(embed=section), CPU)
    return tmp_path, model


def test_the_same_model_and_prompt_give_new_texts_their_vectors(sentence_run):
    folder, model = sentence_run
    table = embed_new_texts(folder / "text", ["blue chair mug", "", "blue mug"], CPU)
    expected = test_sentence.by_hand("red blue chair mug", model)
    np.testing.assert_allclose(table.vectors[0], expected, atol=1e-5)
    assert not table.vectors[1].any()
    old = EmbeddingTable.load(folder / "text").vectors[1]
    np.testing.assert_allclose(table.vectors[2], old, atol=1e-6)


def test_new_items_without_any_text_do_not_need_the_model(sentence_run):
    folder, model = sentence_run
    for path in model.iterdir():
        path.unlink()
    assert embed_new_texts(folder / "text", [""], CPU).vectors.shape == (1, 16)
    with pytest.raises(ConfigError, match="no \\*.safetensors file"):
        embed_new_texts(folder / "text", ["blue mug"], CPU)


def test_a_model_whose_weights_were_changed_is_refused(sentence_run):
    folder, path = sentence_run
    model = BertModel.from_pretrained(path)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[5] += 1
    model.save_pretrained(path)
    with pytest.raises(ArtifactError, match=f"another space.*genrec embed {folder}"):
        embed_new_texts(folder / "text", ["blue mug"], CPU)
