"""New code rows of a pretrained model, and where models come from."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from genrec.errors import ConfigError, DependencyError
from genrec.model.language_model import add_codes, load_pretrained
from genrec.semantic_ids.item_index import ItemIndex

WORDS = ["<pad>", "<start>", "<unknown>", "red", "blue", "lamp", "chair"]
INDEX = ItemIndex(np.asarray([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.int32), (3, 2), {})
TITLES = ["red lamp", "red lamp", "blue chair", "blue chair"]


def pretrained(tied=True):
    torch.manual_seed(0)
    backend = Tokenizer(
        models.WordLevel({word: place for place, word in enumerate(WORDS)}, "<unknown>")
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<start>", unk_token="<unknown>"
    )
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=64,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            tie_word_embeddings=tied,
        )
    )
    return model, tokenizer


@pytest.mark.parametrize("tied", [True, False])
def test_rows_point_to_the_words_of_their_items_and_are_as_long_as_words(tied):
    model, tokenizer = pretrained(tied)
    before = model.get_input_embeddings().weight.detach().clone()
    vocabulary = add_codes(model, tokenizer, INDEX, TITLES, seed=1)
    rows = model.get_input_embeddings().weight.detach()
    assert torch.equal(rows[: len(WORDS)], before)
    mean = before.mean(0)
    about = before[[3, 5]].mean(0) - before[[3, 4, 5, 6]].mean(0)
    first = rows[vocabulary.first_token] - mean
    assert float(torch.cosine_similarity(first, about, dim=0)) > 0.9
    ordinary = (before - mean).norm(dim=1).median()
    lengths = (rows[vocabulary.first_token :] - mean).norm(dim=1)
    torch.testing.assert_close(lengths, ordinary.expand(5))
    assert len(torch.unique(rows, dim=0)) == len(WORDS) + 5
    assert tokenizer.convert_tokens_to_ids("<b_1>") == vocabulary.level_range(1).start + 1


def test_a_tokenizer_that_knows_codes_is_refused():
    model, tokenizer = pretrained()
    add_codes(model, tokenizer, INDEX, TITLES, seed=1)
    with pytest.raises(ConfigError, match="already has tokens"):
        add_codes(model, tokenizer, INDEX, TITLES, seed=1)


def test_a_folder_without_a_model_says_what_to_do(tmp_path):
    with pytest.raises(DependencyError, match="train.language_model"):
        load_pretrained(str(tmp_path), revision=None, dtype=torch.float32)
