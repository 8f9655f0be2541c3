"""The README that goes with a model folder."""

from pathlib import Path
from typing import Any

from genrec.model.generative import GenerativeModel


def write_card(model: GenerativeModel, path: Path) -> None:
    """Write what the model is, what it was trained on, how good it was and how to use it."""
    facts = model.facts
    figures = "\n".join(
        f"| {name} | {value:.4f} |"
        for name, value in facts["validation"].items()
        if name != "seconds"
    )
    example = ", ".join(f'"{item_id}"' for item_id in model.catalog.item_ids[:2])
    path.write_text(
        f"""---
library_name: genrec
tags: [recommendation, semantic-ids]
---

# Generative recommender

Names items by codes: {model.index.levels} codes an item, level sizes {model.index.level_sizes},
{len(model.catalog)} items. Base model: {facts["base_model"]}; form: {facts["form"]};
{_beside(facts)}{facts["parameters"]:,} parameters, {facts["trained_parameters"]:,} of them trained.

```python
from genrec import Recommender

recommender = Recommender.from_pretrained("this folder")
recommender.recommend([[{example}]], k=10)
```

Figures on validation users (seen items excluded), at the checkpoint that was kept:

| figure | value |
| --- | --- |
{figures}
{_shares(facts)}
It recommends the items of its catalogue, and those that `genrec index add` gave codes later.
""",
        encoding="utf-8",
    )


def _shares(facts: dict[str, Any]) -> str:
    """Return how much each side counts, in words; empty for a model with one side."""
    chosen = facts.get("calibration")
    if chosen is None:
        return ""
    return (
        f"\nLists are ordered by a sum in which vectors have a share of {chosen['dense_weight']}, "
        f"and in that the collaborative model one of {chosen['cf_share']}: the best NDCG@10 "
        f"({chosen['ndcg@10']:.4f}) of {chosen['users']} validation users.\n"
    )


def _beside(facts: dict[str, Any]) -> str:
    """Return what the model reads beside the codes, in words; empty for nothing."""
    bridge = facts.get("bridge")
    if bridge is None:
        return ""
    parts = []
    if bridge["items"]:
        parts.append(f"{bridge['items']} vectors of items")
    if bridge["user"]:
        parts.append(f"vectors of users by {bridge['user']}")
    if not parts:
        return ""
    return f"Beside the codes it reads {' and '.join(parts)}. "
