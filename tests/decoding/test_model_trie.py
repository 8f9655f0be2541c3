"""The trie beside a model's weights is the one that its index and counts give."""

from dataclasses import replace

import pytest
import torch

from genrec.decoding.model_trie import model_trie
from genrec.decoding.trie import PrefixTrie
from genrec.errors import ArtifactError
from genrec.model.generative import GenerativeModel
from tests.decoding.test_ranker import generative
from tests.tiny_run import trained


def equal(one, other):
    return torch.equal(one.item_of_leaf, other.item_of_leaf) and all(
        torch.equal(a.code, b.code) and torch.equal(a.child_start, b.child_start)
        for a, b in zip(one.steps, other.steps, strict=True)
    )


def test_the_train_stage_writes_it_and_it_is_the_catalogue(tmp_path):
    folder = trained(tmp_path / "run") / "model"
    model = GenerativeModel.load(folder, device=torch.device("cpu"))
    assert (folder / "trie.safetensors").exists()
    assert model.facts["score"] == "level"
    assert equal(model_trie(model, folder), PrefixTrie.from_index(model.index, model.item_counts))


def test_a_later_generation_gets_a_trie_of_its_own(tmp_path):
    model = generative("llama")
    other = replace(model, item_counts=model.item_counts[::-1].copy(), facts={"generation": 2})
    PrefixTrie.from_index(model.index, model.item_counts).save(tmp_path)
    assert equal(model_trie(model, tmp_path), PrefixTrie.load(tmp_path))
    assert equal(model_trie(other, tmp_path), PrefixTrie.from_index(model.index, other.item_counts))


def test_the_trie_of_another_catalogue_is_refused(tmp_path):
    model = generative("llama")
    few = replace(model.index, codes=model.index.codes[:5])
    PrefixTrie.from_index(few, model.item_counts[:5]).save(tmp_path)
    with pytest.raises(ArtifactError, match="holds 5 items of 3 codes, the index beside it 40"):
        model_trie(model, tmp_path)
