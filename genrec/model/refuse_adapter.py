"""An adapter in place of a language model: refused wherever a recipe names a pretrained model."""

import json
from pathlib import Path
from typing import Any

from genrec.errors import ConfigError


def refuse_adapter_folder(name: str, key: str) -> None:
    """Refuse a folder with an adapter of PEFT: its rows and layers are those of another model.

    Args:
        name: What the recipe names: a folder, or anything else, which passes.
        key: The key of the recipe.

    Raises:
        ConfigError: When it is such a folder.
    """
    settings = Path(name) / "adapter_config.json"
    if not settings.is_file():
        return
    try:
        base = json.loads(settings.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError):
        base = None
    raise ConfigError(_words(name, key, base or "its adapter_config.json does not name it"))


def refuse_loaded_adapter(model: Any, name: str, key: str) -> None:  # noqa: ANN401
    """Refuse a model that came with an adapter, as a hub id of one does: its base is loaded too.

    Args:
        model: As transformers loaded it.
        name: What the recipe names.
        key: The key of the recipe.

    Raises:
        ConfigError: When there is an adapter on it.
    """
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ConfigError(_words(name, key, str(model.config.name_or_path)))


def _words(name: str, key: str, base: str) -> str:
    return (
        f"{key} {name!r} is an adapter, made for the vocabulary and the codes of another model, "
        f"not a language model. Give the model it was trained on ({base}), or one that the adapter "
        "was merged into."
    )
