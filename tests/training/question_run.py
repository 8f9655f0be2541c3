"""Tiny trainings on A-LLMRec's question about titles."""

import json

from genrec.config import Recipe
from tests.training.world import tiny_language_model


def question_recipe(folder, index, **changes):
    settings = {
        "language_model": str(tiny_language_model(folder / "lm", index)),
        "form": "instruction",
        "max_steps": 3,
        "batch_tokens": 160,
        "learning_rate": 1e-2,
        "evaluations": 1,
        "validation_users": 12,
        "max_history": 8,
        "bridge": {"items": True, "user": True, "candidates": 1.0, "candidate_items": 4},
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.0},
    }
    return Recipe.model_validate({"train": settings | changes})


def with_an_end(folder):
    """Give the tiny language model's tokenizer a token that ends a text."""
    path = folder / "lm" / "tokenizer_config.json"
    body = json.loads(path.read_text()) | {"eos_token": "<unknown>"}
    path.write_text(json.dumps(body))
