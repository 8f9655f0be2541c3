"""What a language model does between its last hidden states and its logits, beside the matrix."""

from typing import Any

import torch
from torch import Tensor

from genrec.errors import ConfigError


def output_scale(model: Any) -> float:  # noqa: ANN401 - any generating model of transformers
    """Return what a model multiplies its last hidden states by before its output layer.

    Models of the T5 family multiply by one over the square root of their width, or do not. Which
    of them do is said in other ways by each family and version of transformers, so one token is
    read and the factor is measured. Decoder-only models multiply by nothing.

    Args:
        model: A language model with an output layer.

    Raises:
        ConfigError: When the model does something else to its hidden states.
    """
    if not getattr(model.config, "is_encoder_decoder", False):
        return 1.0
    given, read = _one_token(model)
    for factor in (1.0, float(given.shape[-1]) ** -0.5):
        if torch.allclose(read, factor * given, rtol=1e-2, atol=1e-2 * float(read.abs().max())):
            return factor
    raise ConfigError(
        f"the language model ({model.config.model_type}) changes its hidden states before its "
        "output layer in a way that code heads do not support; choose another language model."
    )


def _one_token(model: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """Return what the decoder gives and what the output layer reads, float32[hidden] each."""
    seen: dict[str, Tensor] = {}

    def decoder_gave(_module: Any, _inputs: Any, output: Any) -> None:  # noqa: ANN401
        seen["given"] = output[0][0, -1].float()

    def layer_reads(_module: Any, inputs: tuple[Tensor, ...]) -> None:  # noqa: ANN401
        seen["read"] = inputs[0][0, -1].float()

    hooks = [
        model.get_decoder().register_forward_hook(decoder_gave),
        model.get_output_embeddings().register_forward_pre_hook(layer_reads),
    ]
    training = model.training
    model.eval()
    token = torch.zeros(1, 1, dtype=torch.int64, device=model.device)
    try:
        with torch.no_grad():
            model(input_ids=token, decoder_input_ids=token, use_cache=False)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return seen["given"], seen["read"]


def output_bias(model: Any) -> Tensor | None:  # noqa: ANN401
    """Return what a model adds to its logits, float[vocabulary], or None for nothing.

    Args:
        model: A language model; BART and its kin keep a bias beside their output layer.
    """
    own: Tensor | None = getattr(model.get_output_embeddings(), "bias", None)
    beside: Tensor | None = getattr(model, "final_logits_bias", None)
    if beside is None:
        return own
    return beside[0] if own is None else own + beside[0]


def full_logits(model: Any, hidden: Tensor) -> Tensor:  # noqa: ANN401
    """Return the logits of all words, float32[..., vocabulary], of last hidden states.

    Args:
        model: A causal language model.
        hidden: float[..., hidden].
    """
    logits: Tensor = model.get_output_embeddings()(hidden).float()
    softcap: float | None = getattr(model.config, "final_logit_softcapping", None)
    return softcap * torch.tanh(logits / softcap) if softcap else logits
