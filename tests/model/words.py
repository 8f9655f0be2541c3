"""A language model and a tokenizer that know words, small enough for tests."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ["<pad>", "<start>", "<end>", "<unknown>"]
# Every letter, digit and mark is a word of its own, so that nothing is unknown.
LETTERS = [chr(code) for code in range(32, 127)] + ["\n"]


def letter_tokenizer():
    """Return a tokenizer with one token a character: pad 0, start 1, end 2, unknown 3, blank 4."""
    places = {word: place for place, word in enumerate([*SPECIAL, *LETTERS])}
    backend = Tokenizer(models.WordLevel(places, "<unknown>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<start>",
        eos_token="<end>",
        unk_token="<unknown>",
    )


def letters(text):
    """Return the token ids of a text, one a character."""
    return [len(SPECIAL) + LETTERS.index(letter) for letter in text]


def letter_model(folder, *, hidden=16, context=512):
    """Write a tiny Llama and the tokenizer into a folder and return it.

    Its weights are large enough that it says different letters, not the last one again.
    """
    torch.manual_seed(0)
    tokenizer = letter_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
