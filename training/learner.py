"""A language model about to be trained: made from scratch, or a pretrained one with adapters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from genrec.config_train import TrainConfig
from genrec.data.dataset import Dataset
from genrec.errors import ConfigError
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import (
    add_codes,
    context_length,
    encoder_decoder_from_scratch,
    from_scratch,
    load_pretrained,
)
from genrec.model.prompts import Prompts
from genrec.model.quantization import is_quantized
from genrec.model.templates import Templates
from genrec.runtime import Runtime
from genrec.semantic_ids.item_index import ItemIndex
from genrec.semantic_ids.vocabulary import SidVocabulary
from genrec.training.dropout import add_dropout
from genrec.training.lora import add_lora


@dataclass(frozen=True)
class Learner:
    """A model about to be trained: what the trainer sees, and what is inside.

    Attributes:
        trained: Given to the trainer: a PEFT wrapper or the model itself.
        model: The model as served, sharing the trained weights.
    """

    trained: PreTrainedModel | PeftModel
    model: GenerativeModel


def prepare(
    config: TrainConfig,
    dataset: Dataset,
    index: ItemIndex,
    runtime: Runtime,
    facts: dict[str, Any],
    codebooks: Sequence[NDArray[np.float32]] = (),
    templates: Templates | None = None,
) -> Learner:
    """Make the untrained learner that a recipe describes.

    ``codebooks`` are those of the index, float32[m_l, w_l] for each level of its quantizer; only
    ``train.new_rows: codebook`` needs them. ``templates`` are those of the tasks, if there are any.

    Raises:
        ConfigError: When the model that is named, or its sizes, cannot be trained.
    """
    trained: Any
    if config.language_model is None:
        language_model, tokenizer, vocabulary = _from_scratch(config, index)
        trained = language_model
    else:
        language_model, tokenizer = load_pretrained(
            config.language_model,
            revision=config.revision,
            dtype=runtime.torch_dtype(),
            quantize=config.lora.quantize,
            device=runtime.torch_device(),
            quiet=runtime.quiet,
        )
        if language_model.config.is_encoder_decoder:
            raise ConfigError(
                f"train.language_model {config.language_model!r} is an encoder-decoder, and those "
                "are trained from scratch only. Give a decoder-only model, or set "
                "train.language_model: null and train.scratch.architecture: encoder_decoder."
            )
        vocabulary = add_codes(
            language_model,
            tokenizer,
            index,
            dataset.catalog.title_words,
            new_rows=config.new_rows,
            codebooks=codebooks,
            sequences=dataset.sequences(),
            seed=runtime.seed,
        )
        trained = add_lora(
            language_model,
            vocabulary,
            rank=config.lora.rank,
            alpha=config.lora.alpha,
            dropout=config.lora.dropout,
            targets=config.lora.targets,
            frozen=config.bridge.frozen,
        )
    device = runtime.torch_device()
    if not is_quantized(language_model):
        trained.to(device)
    if device.type == "cpu":
        # Histories are short: plain products beat the fused kernel here, in bfloat16 by half.
        language_model.set_attn_implementation("eager")
    encoder = bool(language_model.config.is_encoder_decoder)
    wished = Prompts.build(
        config.form, config.max_history, tokenizer, encoder=encoder, templates=templates
    )
    model = GenerativeModel(
        language_model=language_model,
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        index=index,
        prompts=wished.within(index.levels, context_length(language_model)),
        catalog=dataset.catalog,
        item_counts=dataset.item_counts,
        facts={
            "base_model": config.language_model or "from scratch",
            "revision": config.revision,
            "form": config.form,
            # The loss of instructions and tasks is over all words, that of streams alone over the
            # codes of a level.
            "score": "exact" if config.form == "instruction" or config.tasks else "level",
            # Of weights in four bits, two lie in one number.
            "parameters": language_model.num_parameters(),
            "trained_parameters": sum(p.numel() for p in trained.parameters() if p.requires_grad),
            **facts,
        },
    )
    return Learner(trained, model)


def _from_scratch(
    config: TrainConfig, index: ItemIndex
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, SidVocabulary]:
    """Make the small untrained model of a recipe, its tokenizer and its codes."""
    scratch = config.scratch
    sizes = {
        "hidden": scratch.hidden,
        "layers": scratch.layers,
        "heads": scratch.heads,
        "feed_forward": scratch.feed_forward,
    }
    if scratch.architecture == "encoder_decoder":
        if config.form == "instruction":
            raise ConfigError(
                "train.form is instruction, but an encoder-decoder from scratch knows codes only, "
                "no words; set train.form: stream."
            )
        return encoder_decoder_from_scratch(index, **sizes, dropout=scratch.dropout)
    made = from_scratch(index, **sizes, max_tokens=_longest(config.max_history, index.levels))
    add_dropout(made[0], scratch.dropout)
    return made


def _longest(max_history: int, levels: int) -> int:
    """Return room for the longest prompt, an answer, and padding to a round width."""
    return (max_history + 8) * levels + 16
