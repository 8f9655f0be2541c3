"""An adapter is no language model, whichever key names it."""

import json

import pytest
import torch

from genrec.errors import ConfigError
from genrec.model.item_language_model import load_item_language_model
from genrec.model.language_model import load_pretrained
from genrec.model.refuse_adapter import refuse_loaded_adapter
from genrec.model.user_body import pretrained_body
from tests.model.words import letter_model

LOADS = {
    "train.language_model": load_pretrained,
    "molar.language_model": pretrained_body,
    "item_model.language_model": load_item_language_model,
}


@pytest.mark.parametrize("key", LOADS)
@pytest.mark.parametrize("body", [{"base_model_name_or_path": "some/base"}, {}, "damaged"])
def test_a_folder_with_an_adapter_is_refused(tmp_path, key, body):
    told = body if isinstance(body, str) else json.dumps(body)
    (tmp_path / "adapter_config.json").write_text(told)
    base = "some/base" if body and body != "damaged" else "does not name it"
    with pytest.raises(ConfigError, match=f"{key} .* is an adapter, .*{base}"):
        LOADS[key](str(tmp_path), revision=None, dtype=torch.float32)


def test_a_model_that_came_with_an_adapter_is_refused(tmp_path):
    model, _ = load_pretrained(
        str(letter_model(tmp_path / "lm")), revision=None, dtype=torch.float32
    )
    refuse_loaded_adapter(model, "some/adapter", "molar.language_model")
    # What transformers notes of a hub id that turned out to be an adapter.
    model._hf_peft_config_loaded = True
    with pytest.raises(ConfigError, match="molar.language_model 'some/adapter' is an adapter"):
        refuse_loaded_adapter(model, "some/adapter", "molar.language_model")
