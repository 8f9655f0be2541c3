"""Dropout for language models that come without it, in training only."""

from typing import Any

from torch import Tensor, nn

from genrec.errors import ConfigError


def add_dropout(model: nn.Module, probability: float) -> None:
    """Drop parts of the embeddings and of every block's output while the model trains.

    Modern decoders have no dropout of their own; a small model trained from scratch on few users
    memorises their sequences without it. Nothing is stored with the model: hooks act only in
    training mode and vanish when the model is saved.

    Args:
        model: A causal language model with ``o_proj`` and ``down_proj`` layers.
        probability: Chance that a value is dropped; 0 changes nothing.

    Raises:
        ConfigError: When the model has no such layers.
    """
    if probability == 0:
        return

    def drop(module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:  # noqa: ANN401
        return nn.functional.dropout(output, probability, module.training)

    layers = [
        layer
        for name, layer in model.named_modules()
        if name.rsplit(".", 1)[-1] in ("o_proj", "down_proj")
    ]
    if not layers:
        raise ConfigError("dropout needs a model with o_proj and down_proj layers.")
    embeddings: Any = model
    for layer in [embeddings.get_input_embeddings(), *layers]:
        layer.register_forward_hook(drop)
