"""How good the model is while it trains: what the best checkpoint is chosen by."""

import numpy as np
import torch

from genrec.data.histories import Histories
from genrec.decoding.ranker import GenerativeRanker
from genrec.model.generative import GenerativeModel
from genrec.training.batches import IGNORED
from genrec.training.objectives import Objective


def validate(
    model: GenerativeModel,
    objective: Objective,
    examples: Histories,
    *,
    beam: int = 10,
    batch_size: int = 64,
) -> dict[str, float]:
    """Measure a model on users whose next item is known.

    Args:
        model: The model as it is now.
        objective: Gives the loss of the true codes.
        examples: Validation histories and targets.
        beam: Beam width of the ranking.
        batch_size: Users at once.

    Returns:
        ``loss`` (nats an item, over the codes of each level whatever the training loss is over),
        ``accuracy_1``... (share of users whose code at a level is the model's best guess, given
        the true codes before it), ``recall@10`` and ``ndcg@10`` of the
        ranking without seen items. The latter two count items: another item with the codes of the
        true one is no hit.
    """
    training = model.language_model.training
    model.language_model.eval()
    device = next(model.language_model.parameters()).device
    losses, hits = [], []
    order = np.argsort(examples.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        items = _with_targets(examples, rows, objective.prompts.max_history)
        loss, hit = objective.last_item_scores(items.to(device))
        losses.append(loss.cpu())
        hits.append(hit.cpu())
    histories = [examples[row] for row in range(len(examples))]
    ranker = GenerativeRanker(model, beam=beam, batch_size=batch_size)
    rankings = ranker.rank(histories, 10, exclude=histories)
    model.language_model.train(training)
    places = [
        np.flatnonzero(ranking.items == target)
        for ranking, target in zip(rankings, examples.target, strict=True)
    ]
    found = np.asarray([place[0] for place in places if len(place)], dtype=np.float64)
    accuracy = torch.cat(hits).float().mean(0)
    return {
        "loss": float(torch.cat(losses).sum(1).mean()),
        **{f"accuracy_{level + 1}": float(share) for level, share in enumerate(accuracy)},
        "recall@10": len(found) / len(examples),
        "ndcg@10": float((1 / np.log2(found + 2)).sum()) / len(examples),
    }


def sample(examples: Histories, users: int, seed: int) -> Histories:
    """Return at most so many examples, drawn at random by seed, in their old order."""
    if len(examples) <= users:
        return examples
    rows = np.random.default_rng(seed).choice(len(examples), users, replace=False)
    return examples.take(np.sort(rows))


def _with_targets(examples: Histories, rows: np.ndarray, max_history: int) -> torch.Tensor:
    """Return the newest items of each history and then its target, int64[B, width], padded."""
    sequences = [np.append(examples[int(row)][-max_history:], examples.target[row]) for row in rows]
    items = np.full((len(rows), max(map(len, sequences))), IGNORED, dtype=np.int64)
    for place, sequence in enumerate(sequences):
        items[place, : len(sequence)] = sequence
    return torch.from_numpy(items)
