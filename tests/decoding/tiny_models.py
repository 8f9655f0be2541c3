"""Random models of every supported kind over a catalogue, and their own word on one item."""

from typing import Any

import numpy as np
import polars as pl
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    MT5Config,
    MT5ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
    UMT5Config,
    UMT5ForConditionalGeneration,
)

from genrec.data.catalog import Catalog
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import encoder_decoder_from_scratch, from_scratch
from genrec.model.prompts import Prompts

T5_SHAPE: Any = {
    "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "pad_token_id": 0,
    "decoder_start_token_id": 0, "eos_token_id": 1, "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
}  # fmt: skip
# As T5 1.1, and with fewer blocks in the decoder than in the encoder.
UNTIED = {
    "tie_word_embeddings": False, "feed_forward_proj": "gated-gelu", "num_layers": 3,
    "num_decoder_layers": 2,
}  # fmt: skip
BART_SHAPE: Any = {
    "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "pad_token_id": 0,
    "eos_token_id": 1, "bos_token_id": 1, "decoder_start_token_id": 1, "forced_eos_token_id": None,
    "max_position_embeddings": 128,
}  # fmt: skip
ENCODER_DECODERS = {
    "t5": lambda words: T5ForConditionalGeneration(T5Config(vocab_size=words, **T5_SHAPE)),
    "t5, untied": lambda words: T5ForConditionalGeneration(
        T5Config(vocab_size=words, **T5_SHAPE | UNTIED)
    ),
    "mt5": lambda words: MT5ForConditionalGeneration(MT5Config(vocab_size=words, **T5_SHAPE)),
    "umt5": lambda words: UMT5ForConditionalGeneration(UMT5Config(vocab_size=words, **T5_SHAPE)),
    "bart": lambda words: BartForConditionalGeneration(BartConfig(vocab_size=words, **BART_SHAPE)),
}
KINDS = ["llama", *ENCODER_DECODERS]


def tiny_model(index, kind="llama", form="stream", counts=None):
    """A model with random weights, large enough for its favourites to differ."""
    torch.manual_seed(0)
    if kind == "llama":
        model, tokenizer, vocabulary = from_scratch(
            index, hidden=16, layers=2, heads=2, feed_forward=32, max_tokens=128
        )
    else:
        _, tokenizer, vocabulary = encoder_decoder_from_scratch(
            index, hidden=16, layers=1, heads=2, feed_forward=32, dropout=0.1
        )
        model = ENCODER_DECODERS[kind](len(tokenizer))
    if kind == "t5, untied":
        # Only what is read from a file stays untied by itself.
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    if kind in ("t5", "umt5"):
        # They divide by the root of their width, which would leave all codes alike.
        torch.nn.init.normal_(model.shared.weight, std=1.0)
    if kind == "bart":
        torch.nn.init.normal_(model.final_logits_bias)
    names = [str(row) for row in range(len(index))]
    return GenerativeModel(
        model.eval(),
        tokenizer,
        vocabulary,
        index,
        Prompts.build(form, 8, tokenizer, encoder=kind != "llama"),
        Catalog(pl.DataFrame({"item_id": names, "title": names, "text": names})),
        np.zeros(len(index), dtype=np.int64) if counts is None else counts,
        {},
    )


@torch.no_grad()
def code_logits(model, history, codes):
    """The logits that name each code of a tuple, float[L, vocabulary], from one plain pass."""
    table = model.vocabulary.tokens(model.index.codes)
    prompt = model.prompts.encode([history], table)[0].tolist()
    own = model.vocabulary.tokens(np.array([codes]))[0].tolist()
    language_model = model.language_model
    if not model.is_encoder_decoder:
        logits = language_model(input_ids=torch.tensor([[*prompt, *own]])).logits[0]
        return logits[len(prompt) - 1 : -1]
    start = language_model.config.decoder_start_token_id
    return language_model(
        input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([[start, *own[:-1]]])
    ).logits[0]


def score_of_tuple(model, history, codes, score="level"):
    """The log-probability of a tuple, by the model's own pass."""
    total = 0.0
    for level, logits in enumerate(code_logits(model, history, codes)):
        tokens = model.vocabulary.level_range(level)
        if score == "exact":
            total += float(logits.log_softmax(0)[tokens[codes[level]]])
        else:
            total += float(logits[tokens.start : tokens.stop].log_softmax(0)[codes[level]])
    return total
