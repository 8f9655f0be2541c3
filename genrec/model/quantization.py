"""Frozen weights in four or eight bits, so that a larger language model can be tuned (QLoRA).

Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs" (2023); the numbers and kernels are
those of the library bitsandbytes.
"""

import importlib.util
from typing import Any, Literal

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel

from genrec.errors import DependencyError

Quantize = Literal["nf4", "int8"]


def loading_arguments(
    quantize: Quantize | None, device: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    """Return what ``from_pretrained`` needs to quantise the linear layers; nothing for None.

    Args:
        quantize: ``nf4`` (four bits, scales quantised once more) or ``int8``.
        device: Where the model goes; it cannot be moved later.
        dtype: Number type that products are computed in.

    Raises:
        DependencyError: When bitsandbytes is not installed.
    """
    if quantize is None:
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise DependencyError(
            f"train.lora.quantize is {quantize}, which needs bitsandbytes. Install it by "
            '`pip install "genrec[qlora]"`, or set train.lora.quantize: null.'
        )
    settings = (
        BitsAndBytesConfig(load_in_8bit=True)
        if quantize == "int8"
        else BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    )
    return {"quantization_config": settings, "device_map": {"": device}}


def keep_trainable(model: PreTrainedModel) -> None:
    """Keep bitsandbytes from repacking four-bit layers when they are first read for validation.

    On CPUs with AVX512-BF16 it does so, and repacked layers pass no gradient on, without a word.
    """
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            setattr(layer, "support_avx512bf16_for_cpu", False)  # noqa: B010 - no part of Module


def is_quantized(model: PreTrainedModel) -> bool:
    """Tell whether linear layers of a model are quantised."""
    return bool(getattr(model, "is_quantized", False))


@torch.no_grad()
def dequantize(model: PreTrainedModel) -> None:
    """Turn quantised layers into plain ones in float32, adapters on them added.

    PEFT would round the sums to four or eight bits once more. These are what was trained, and
    differ from the weights that were quantised.

    Args:
        model: The model inside PEFT's wrapper, with one adapter; changed in place.
    """
    # Serving reads other functions of the model modules and needs no PEFT.
    from peft.tuners.lora import LoraLayer

    inner: Any = model
    added: dict[str, torch.Tensor] = {}
    for name, layer in list(model.named_modules()):
        if isinstance(layer, LoraLayer) and _quantized_layer(layer.get_base_layer()):
            trained: Any = layer
            added[name] = trained.get_delta_weight(trained.active_adapters[0]).float()
            model.set_submodule(name, layer.get_base_layer())
    inner.dequantize(dtype=torch.float32)
    for name, delta in added.items():
        plain: Any = model.get_submodule(name)
        plain.weight += delta


def _quantized_layer(layer: torch.nn.Module) -> bool:
    import bitsandbytes

    return isinstance(layer, bitsandbytes.nn.Linear4bit | bitsandbytes.nn.Linear8bitLt)
