import sys

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from genrec.config import EmbedConfig, Recipe
from genrec.embeddings.model_folder import model_folder
from genrec.embeddings.sentence import encode_sentences
from genrec.embeddings.table import EmbeddingTable
from genrec.embeddings.text import embed_texts, run
from genrec.errors import ConfigError, DependencyError
from genrec.runtime import Runtime
from tests.embeddings.item_dataset import write_dataset

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "lamp", "chair", "mug"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A random two-layer encoder, as a plain transformers folder (mean pooling)."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"), model_max_length=16)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def encode(texts, folder, prompt="", **keys):
    pytest.importorskip("sentence_transformers")
    return encode_sentences(
        texts, model=str(folder), revision=None, prompt=prompt, batch_size=2, **keys
    )


def by_hand(text, folder):
    """Mean over the token states, scaled to length 1."""
    model = BertModel.from_pretrained(folder).eval()
    ids = [2, *(WORDS.index(word) for word in text.split()), 3]
    with torch.inference_mode():
        states = model(torch.tensor([ids])).last_hidden_state[0]
    mean = states.mean(dim=0)
    return (mean / mean.norm()).numpy()


def test_vectors_are_the_mean_of_the_token_states(tiny):
    texts = ["blue mug", "red chair lamp", "red lamp"]
    vectors, facts = encode(texts, tiny)
    assert vectors.dtype == np.float32
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(vector, by_hand(text, tiny), atol=1e-5)
    assert facts["dimensions"] == 16
    assert facts["model"] == str(tiny)
    assert facts["revision"] is None
    assert facts["dtype"] == "float32"
    assert facts["max_tokens"] == 16


def test_the_prompt_is_put_before_every_text(tiny):
    vectors, facts = encode(["lamp"], tiny, prompt="red ")
    np.testing.assert_allclose(vectors[0], by_hand("red lamp", tiny), atol=1e-5)
    assert facts["prompt"] == "red "


def test_the_same_text_gets_the_same_vector_and_no_text_gets_none(tiny):
    texts = ["red mug", "", "blue chair lamp", "red mug", "red lamp chair mug blue", "red mug"]
    table = embed_texts(texts, lambda rows: encode(rows, tiny), "sentence_transformer")
    np.testing.assert_array_equal(table.vectors[0], table.vectors[3])
    np.testing.assert_array_equal(table.vectors[0], table.vectors[5])
    assert not table.vectors[1].any()
    assert table.origin["empty_texts"] == 1
    assert table.origin["distinct_texts"] == 3
    np.testing.assert_allclose(table.vectors[2], by_hand("blue chair lamp", tiny), atol=1e-5)


def test_the_digest_follows_the_weights(tiny, tmp_path):
    first = encode(["lamp"], tiny)[1]["weights_digest"]
    assert encode(["mug"], tiny)[1]["weights_digest"] == first
    for path in tiny.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert encode(["lamp"], tmp_path)[1]["weights_digest"] == first
    model = BertModel.from_pretrained(tiny)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[5] += 1
    model.save_pretrained(tmp_path)
    assert encode(["lamp"], tmp_path)[1]["weights_digest"] != first


def test_the_missing_package_is_named_with_its_install_line(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(DependencyError, match=r'pip install "genrec\[text\]"'):
        encode_sentences(["a"], model=str(tiny), revision=None, prompt="", batch_size=1)


def test_an_unreachable_hub_id_names_the_local_folder_way(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DependencyError, match="set embed.model to its path"):
        model_folder("someone/some-model", "0123abc")


def test_a_hub_id_needs_a_revision():
    with pytest.raises(ConfigError, match="'someone/some-model' .* needs embed.revision"):
        model_folder("someone/some-model", None)


def test_no_model_is_refused():
    with pytest.raises(ConfigError, match="embed.model is not set"):
        model_folder(None, None)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no \*.safetensors file"):
        model_folder(str(tmp_path), None)


def test_pickled_weights_are_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(ConfigError, match="can run code when it is read"):
        model_folder(str(tmp_path), None)


def test_a_folder_that_cannot_be_loaded_is_named(tmp_path):
    pytest.importorskip("sentence_transformers")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot be loaded as a sentence-transformers model"):
        encode(["a"], tmp_path)


def test_the_stage_runs_the_model_of_the_recipe(tiny, tmp_path):
    pytest.importorskip("sentence_transformers")
    write_dataset(tmp_path / "dataset", ["red lamp", "blue mug"])
    section = EmbedConfig(method="sentence_transformer", model=str(tiny), prompt="red ")
    folder = run(tmp_path, Recipe(embed=section), Runtime(device="cpu", quiet=True))
    table = EmbeddingTable.load(folder)
    np.testing.assert_allclose(table.vectors[1], by_hand("red blue mug", tiny), atol=1e-5)
    assert table.origin["method"] == "sentence_transformer"
    assert table.origin["model"] == str(tiny)
    assert table.origin["prompt"] == "red "
