"""Getting a language model that has one token for every code."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoTokenizer,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from genrec.data.histories import Histories
from genrec.errors import ConfigError
from genrec.model import fetch
from genrec.model.auto_model import auto_model
from genrec.model.new_rows import NEW_ROWS, Given
from genrec.model.progress_bars import without_progress_bars
from genrec.model.quantization import Quantize, keep_trainable, loading_arguments
from genrec.model.refuse_adapter import refuse_adapter_folder, refuse_loaded_adapter
from genrec.model.scratch import decoder_config
from genrec.semantic_ids.item_index import ItemIndex
from genrec.semantic_ids.vocabulary import SidVocabulary

logger = logging.getLogger(__name__)

PAD, UNKNOWN = "<pad>", "<unknown>"


def from_scratch(
    index: ItemIndex,
    *,
    hidden: int,
    layers: int,
    heads: int,
    feed_forward: int,
    max_tokens: int,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, SidVocabulary]:
    """Make a small untrained language model whose only words are the codes.

    Args:
        index: The codes to have tokens for.
        hidden: Width.
        layers: Transformer blocks.
        heads: Attention heads.
        feed_forward: Width of the feed-forward layers.
        max_tokens: Longest sequence it shall read.

    Raises:
        ConfigError: When the width is not a multiple of twice the heads.
    """
    tokenizer, vocabulary = _code_words(index, bos_token="<start>")
    config = decoder_config(
        "train.scratch",
        words=len(tokenizer),
        hidden=hidden,
        layers=layers,
        heads=heads,
        feed_forward=feed_forward,
        max_tokens=max_tokens,
        start_token=tokenizer.bos_token_id,
        pad_token=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config), tokenizer, vocabulary


def encoder_decoder_from_scratch(
    index: ItemIndex, *, hidden: int, layers: int, heads: int, feed_forward: int, dropout: float
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, SidVocabulary]:
    """Make a small untrained T5 whose only words are the codes, as in TIGER.

    An encoder reads the history and a decoder names the next item (Rajput et al., "Recommender
    Systems with Generative Retrieval", 2023).

    Args:
        index: The codes to have tokens for.
        hidden: Width.
        layers: Transformer blocks of the encoder, and as many of the decoder.
        heads: Attention heads.
        feed_forward: Width of the feed-forward layers.
        dropout: Chance that a value is dropped in training.

    Raises:
        ConfigError: When the width is not a multiple of the heads.
    """
    if hidden % heads:
        raise ConfigError(
            f"train.scratch.hidden is {hidden} and train.scratch.heads is {heads}; "
            "the width must be a multiple of the heads."
        )
    tokenizer, vocabulary = _code_words(index, eos_token="<end>")
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=hidden,
        d_kv=hidden // heads,
        d_ff=feed_forward,
        num_layers=layers,
        num_heads=heads,
        dropout_rate=dropout,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **{"decoder_start_token_id": tokenizer.pad_token_id},
    )
    return T5ForConditionalGeneration(config), tokenizer, vocabulary


def _code_words(index: ItemIndex, **special: str) -> tuple[PreTrainedTokenizerBase, SidVocabulary]:
    """Return a tokenizer that knows padding, one special token, the unknown and the codes."""
    words = [PAD, *special.values(), UNKNOWN]
    vocabulary = SidVocabulary(index.level_sizes, len(words))
    words.extend(vocabulary.token_texts())
    places = {word: place for place, word in enumerate(words)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(places, UNKNOWN)),
        pad_token=PAD,
        unk_token=UNKNOWN,
        **special,
    )
    return tokenizer, vocabulary


def load_pretrained(
    name: str,
    *,
    revision: str | None,
    dtype: torch.dtype,
    quantize: Quantize | None = None,
    device: torch.device | None = None,
    key: str = "train.language_model",
    quiet: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a language model by known name, local folder or hub id.

    Args:
        name: ``smollm2``, a folder, or a hub id.
        revision: Pinned revision for a hub id.
        dtype: Number type of the weights.
        quantize: Keeps linear layers in fewer bits; see ``genrec.model.quantization``.
        device: Where a quantised model goes, the CPU by default.
        key: The key of the recipe that names it, for messages.
        quiet: No progress bars.

    Raises:
        DependencyError: When the model can be reached neither locally nor on the hub, or
            bitsandbytes is needed and not installed.
        ConfigError: When it is an adapter.
    """
    refuse_adapter_folder(name, key)
    source, revision = fetch.resolve(name, revision, quiet=quiet)
    loading = loading_arguments(quantize, device or torch.device("cpu"), dtype)
    try:
        with without_progress_bars(quiet):
            model = auto_model(source, revision=revision, dtype=dtype, loading=loading)
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        scratch = key == "train.language_model"
        otherwise = "; or leave it null to train a small model from scratch" if scratch else ""
        raise fetch.unreachable(name, key, otherwise, error) from error
    refuse_loaded_adapter(model, name, key)
    keep_trainable(model)
    return model, tokenizer


def context_length(model: PreTrainedModel) -> int | None:
    """Return how many tokens a model can read at once; None where its configuration sets no end."""
    config: Any = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    if not getattr(config, "use_sliding_window", True):
        window = None
    ends = [getattr(config, "max_position_embeddings", None), window]
    known = [int(end) for end in ends if end]
    return min(known) if known else None


def add_codes(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    index: ItemIndex,
    titles: Sequence[str],
    *,
    new_rows: str = "titles",
    codebooks: Sequence[NDArray[np.float32]] = (),
    sequences: Histories | None = None,
    seed: int,
) -> SidVocabulary:
    """Give a pretrained language model one new token for every code.

    The new rows start from the old ones, in one of the ways of ``genrec.model.new_rows``. The
    output rows of models with separate heads start the same way from the output matrix.

    Args:
        model: Changed in place.
        tokenizer: Changed in place.
        index: The codes.
        titles: Title of every catalogue row.
        new_rows: How new rows start, a name in ``NEW_ROWS``.
        codebooks: float32[m_l, w_l] for each level of the quantizer; ``codebook`` needs them.
        sequences: Training histories; ``cw2v`` learns from them as well as from titles.
        seed: Seed of the noise.

    Raises:
        ConfigError: When ``new_rows`` names no way, or the tokenizer already knows codes.
    """
    if new_rows not in NEW_ROWS:
        raise ConfigError(
            f"new rows {new_rows!r} are not known, expected one of {', '.join(NEW_ROWS)}."
        )
    vocabulary = SidVocabulary(index.level_sizes, len(tokenizer))
    # Before the codes are words, so that no title is read as one.
    encoded = tokenizer([str(title) for title in titles], add_special_tokens=False)["input_ids"]
    added = tokenizer.add_tokens(vocabulary.token_texts())
    if added != len(vocabulary.token_texts()):
        raise ConfigError(
            "the language model's tokenizer already has tokens that look like item "
            "codes; use the base model, not one that was tuned on codes before."
        )
    old_size = vocabulary.first_token
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    layers: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    matrices: list[torch.Tensor] = [layers[0].weight]
    if layers[1].weight is not layers[0].weight:
        matrices.append(layers[1].weight)
    for matrix in matrices:
        old = matrix.detach()[:old_size].float().cpu()
        rows = NEW_ROWS[new_rows](Given(old, encoded, index, seed, codebooks, sequences))
        with torch.no_grad():
            matrix[old_size : old_size + len(rows)] = rows.to(matrix)
    return vocabulary


def code_token_ids(vocabulary: SidVocabulary) -> list[int]:
    """Return the token id of every code, in order."""
    last = vocabulary.level_range(len(vocabulary.level_sizes) - 1).stop
    return list(range(vocabulary.first_token, last))


def item_token_table(vocabulary: SidVocabulary, index: ItemIndex) -> NDArray[np.int64]:
    """Return the code tokens of every catalogue row, int64[n, L]."""
    tokens: Any = vocabulary.tokens(index.codes)
    return np.asarray(tokens, dtype=np.int64)
