"""Low-rank adapters on a model that gets no new words."""

import warnings

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from genrec.config_lora import AdapterConfig
from genrec.errors import ConfigError


def add_adapters(
    model: nn.Module,
    settings: AdapterConfig,
    *,
    section: str,
    kept: str | None = None,
) -> PeftModel:
    """Freeze a language model and add adapters to it.

    Args:
        model: Changed in place.
        settings: Rank, scale, dropout and names of the layers that get them.
        section: Section of the recipe they stand in, for messages.
        kept: Pattern of the names of modules that get no adapters, whatever the settings say.

    Returns:
        The wrapped model; its adapters are float32 whatever the frozen weights are, so that small
        steps are not lost to rounding.

    Raises:
        ConfigError: When no layer has one of the names.
    """
    try:
        wanted = LoraConfig(
            task_type="FEATURE_EXTRACTION",
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=settings.targets,
            exclude_modules=kept,
        )
        with warnings.catch_warnings():
            # PEFT reads an attribute that transformers has renamed; nothing a user can act on.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
            wrapped = get_peft_model(model, wanted)
    except ValueError as error:
        raise ConfigError(f"{section}.lora.targets is {settings.targets}: {error}") from error
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return wrapped
