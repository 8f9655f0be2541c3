"""Low-rank adapters that also train the new token rows, and their merge."""

import warnings
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from genrec.errors import ConfigError
from genrec.model.language_model import code_token_ids
from genrec.model.quantization import dequantize, is_quantized
from genrec.semantic_ids.vocabulary import SidVocabulary


def add_lora(
    model: PreTrainedModel,
    vocabulary: SidVocabulary,
    *,
    rank: int,
    alpha: int,
    dropout: float,
    targets: list[str] | str,
    frozen: bool = False,
) -> PeftModel:
    """Freeze a language model, add adapters and make the rows of the code tokens trainable.

    Low-rank adapters alone leave the rows of new tokens as they were started, which is why models
    tuned that way name items that do not exist. Here the code rows are trained in full; where
    input and output embeddings are one matrix, the same trained rows serve both.

    Args:
        model: Causal language model whose vocabulary holds the codes; changed in place.
        vocabulary: Which tokens are codes.
        rank: Rank of the adapters.
        alpha: Their scale, divided by the rank.
        dropout: Dropout on their inputs.
        targets: Names of the layers that get them, or ``all-linear``.
        frozen: Leave adapters as they start, which changes nothing: only code rows are trained.

    Returns:
        The wrapped model. Adapter weights and code rows are float32 whatever the frozen weights
        are, so that small steps are not lost to rounding.

    Raises:
        ConfigError: When no layer has one of the names.
    """
    rows = code_token_ids(vocabulary)
    embedding, output = _names(model)
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    indices = {embedding: rows} if tied else {embedding: rows, output: rows}
    try:
        settings = LoraConfig(
            task_type="CAUSAL_LM",
            r=rank,
            lora_alpha=alpha,
            lora_dropout=dropout,
            target_modules=targets,
            trainable_token_indices=indices,
        )
        with warnings.catch_warnings():
            # PEFT reads an attribute that transformers has renamed, and says that it treats GPT-2's
            # layers as it should; nothing a user can act on.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
            warnings.filterwarnings("ignore", "fan_in_fan_out is set to False")
            wrapped = get_peft_model(model, settings)
    except ValueError as error:
        raise ConfigError(f"train.lora.targets is {targets}: {error}") from error
    for name, parameter in wrapped.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(not frozen or "trainable_tokens_delta" in name)
    return wrapped


def _names(model: PreTrainedModel) -> tuple[str, str]:
    """Return the last part of the names of the input and output embedding layers."""
    found: dict[int, str] = {
        id(module): name.rsplit(".", 1)[-1] for name, module in model.named_modules()
    }
    return found[id(model.get_input_embeddings())], found[id(model.get_output_embeddings())]


def merge(wrapped: PeftModel) -> PreTrainedModel:
    """Fold adapters and code rows into the weights; the result is a plain model.

    The sums are made in float32 and rounded once to the model's own number type. A model that was
    quantised for the training is plain afterwards, and as large as before it was quantised.
    """
    inner: Any = wrapped.get_base_model()
    dtype = inner.get_input_embeddings().weight.dtype
    if is_quantized(inner):
        dequantize(inner)
    wrapped.float()
    merged: Any = wrapped.merge_and_unload()
    merged.to(dtype)
    tied = inner.config.tie_word_embeddings
    if tied:
        merged.tie_weights()
    for parameter in merged.parameters():
        parameter.requires_grad_(False)
    result: PreTrainedModel = merged
    torch.nn.Module.eval(result)
    return result
