"""Writing the model folder once a model is trained."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from peft import PeftModel

from genrec.decoding.trie import PrefixTrie
from genrec.model.generative import GenerativeModel
from genrec.training.card import write_card
from genrec.training.curve import draw_curve
from genrec.training.dense import DenseTerm
from genrec.training.learner import Learner
from genrec.training.lora import merge
from genrec.training.reinforcement import PHASE


def save_model(
    learner: Learner,
    folder: Path,
    log: list[dict[str, Any]],
    *,
    dense: DenseTerm | None,
    best_by: str,
) -> None:
    """Write the adapter (if any), the merged model, the log, its plot and the card.

    Args:
        learner: The trained model.
        folder: Where to write.
        log: The training log.
        dense: The trained dense side, if any.
        best_by: The figure of validation that chose the weights.
    """
    model = learner.model
    if isinstance(learner.trained, PeftModel):
        model = _merged(model, learner.trained, folder)
    kept = model.facts.get(PHASE, {"kept": False})["kept"]
    best = max(
        (entry for entry in log if f"eval_{best_by}" in entry and ("phase" in entry) == kept),
        default={},
        key=lambda entry: entry[f"eval_{best_by}"],
    )
    model.facts["validation"] = {
        name.removeprefix("eval_"): value for name, value in best.items() if "eval_" in name
    }
    if dense is not None:
        found = model.facts["calibration"]
        served = dense.learner.served(found["dense_weight"], found["cf_share"])
        model = replace(model, dense=served)
        if model.bridge is not None:
            model.bridge.soft.settle()
    model.save(folder)
    PrefixTrie.from_index(model.index, model.item_counts).save(folder)
    (folder / "training.json").write_text(json.dumps(log, indent=2) + "\n")
    draw_curve(log, folder / "training.png")
    write_card(model, folder / "README.md")


def _merged(model: GenerativeModel, trained: PeftModel, folder: Path) -> GenerativeModel:
    """Write the adapter and return the model with it folded into the weights."""
    if model.bridge is not None:
        model.bridge.soft.detach_from(model.language_model)
    trained.save_pretrained(str(folder / "adapter"), save_embedding_layers=False)
    merged = merge(trained)
    if model.bridge is not None:
        model.bridge.soft.attach(merged)
    return replace(model, language_model=merged)
