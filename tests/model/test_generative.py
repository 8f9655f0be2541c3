"""A model folder gives back the model that was saved, whatever its architecture."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from genrec import artifacts
from genrec.decoding.ranker import GenerativeRanker
from genrec.errors import ArtifactError, ConfigError
from genrec.model.decoder_start import decoder_start_token
from genrec.model.generative import GenerativeModel
from genrec.model.output_layer import output_scale
from genrec.model.prompts import Prompts
from genrec.semantic_ids.item_index import ItemIndex
from tests.decoding.tiny_models import ENCODER_DECODERS, KINDS, tiny_model

CODES = np.array([[a, b] for a in range(4) for b in range(4)], dtype=np.int32)
HISTORIES = [np.asarray(rows, dtype=np.int32) for rows in ([], [3, 1], [5, 1, 9])]


def saved_and_loaded(model, folder):
    with artifacts.writing(folder, "model") as partial:
        model.save(partial)
    return GenerativeModel.load(folder, device=torch.device("cpu"))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_loaded_ranks_like_what_was_saved(kind, tmp_path):
    model = tiny_model(ItemIndex(CODES, (4, 4), {}), kind)
    want = GenerativeRanker(model, score="exact").rank(HISTORIES, 16)
    once = saved_and_loaded(model, tmp_path / "once")
    twice = saved_and_loaded(once, tmp_path / "twice")
    for loaded in (once, twice):
        assert type(loaded.language_model) is type(model.language_model)
        assert loaded.is_encoder_decoder == (kind != "llama")
        assert loaded.prompts == model.prompts
        got = GenerativeRanker(loaded, score="exact").rank(HISTORIES, 16)
        for one, other in zip(want, got, strict=True):
            assert one.items.tolist() == other.items.tolist()
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


@pytest.mark.parametrize("kind", ENCODER_DECODERS)
def test_the_scale_of_the_output_layer_is_that_of_the_model(kind):
    """Tied T5 divides by the root of its width, T5 1.1 and BART do not."""
    model = tiny_model(ItemIndex(CODES, (4, 4), {}), kind).language_model
    model.train()
    assert output_scale(model) == (0.25 if kind in ("t5", "umt5") else 1.0)
    assert model.training


def test_an_output_layer_of_another_scale_is_refused():
    model = tiny_model(ItemIndex(CODES, (4, 4), {}), "t5").language_model
    model.model_dim = 7
    with pytest.raises(ConfigError, match="changes its hidden states"):
        output_scale(model)


def test_a_decoder_without_a_start_is_refused():
    model = tiny_model(ItemIndex(CODES, (4, 4), {}), "t5").language_model
    assert decoder_start_token(model) == 0
    model.config.decoder_start_token_id = None
    model.generation_config.decoder_start_token_id = None
    with pytest.raises(ArtifactError, match="no decoder_start_token_id"):
        decoder_start_token(model)


def test_an_encoder_reads_a_whole_text():
    """It ends with the token for that; the next item is no continuation of it."""
    model = tiny_model(ItemIndex(CODES, (4, 4), {}), "t5")
    table = model.vocabulary.tokens(model.index.codes)
    empty, one = model.prompts.encode([np.array([], int), np.array([2])], table)
    end = model.tokenizer.eos_token_id
    assert empty.tolist() == [end]
    assert one.tolist() == [*table[2].tolist(), end]
    model.tokenizer.bos_token = "<unknown>"
    both = Prompts.build("stream", 8, model.tokenizer, encoder=True)
    assert (both.before, both.after) == ((model.tokenizer.bos_token_id,), (end,))
    model.tokenizer.bos_token = model.tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="neither a bos nor an eos"):
        Prompts.build("stream", 8, model.tokenizer, encoder=True)


def test_an_index_of_other_levels_than_the_tokens_is_refused():
    model = tiny_model(ItemIndex(CODES, (4, 4), {}), "llama")
    other = ItemIndex(np.concatenate([CODES, CODES], axis=1), (4, 4, 4, 4), {})
    with pytest.raises(ArtifactError, match=r"levels of \(4, 4\) codes, the index has levels of"):
        replace(model, index=other)
