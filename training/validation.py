"""How good the model is while it trains: what the best checkpoint is chosen by."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from genrec.data.histories import Histories
from genrec.data.ranking import Ranking
from genrec.decoding.hybrid_ranker import Candidates, HybridRanker
from genrec.decoding.ranker import GenerativeRanker
from genrec.decoding.rules import RowRules
from genrec.model.generative import GenerativeModel
from genrec.training.batches import IGNORED
from genrec.training.dense import DenseTerm
from genrec.training.dense_weight import Figures, SideWeights
from genrec.training.objectives import Objective


def validate(
    model: GenerativeModel,
    objective: Objective,
    examples: Histories,
    *,
    beam: int = 10,
    batch_size: int = 64,
    cutoffs: Sequence[int] = (10,),
) -> dict[str, float]:
    """Measure a model on users whose next item is known.

    Args:
        model: The model as it is now.
        objective: Gives the loss of the true codes.
        examples: Validation histories and targets.
        beam: Beam width of the ranking.
        batch_size: Users at once.
        cutoffs: List lengths to measure at; a beam below the longest is widened to it.

    Returns:
        ``loss`` (nats an item, over the codes of each level whatever the training loss is over),
        ``accuracy_1``... (share of users whose code at a level is the model's best guess, given
        the true codes before it), ``recall@10`` and ``ndcg@10``, and so for every cutoff, of the
        ranking without seen items. The latter count items: another item with the codes of the
        true one is no hit. With a dense side they are those of the sum with the best
        ``dense_weight`` and ``cf_share``, and ``ndcg@10_generative`` and ``ndcg@10_dense`` those of
        the codes and of the user vector alone.
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
    rankings, told = _rankings(model, objective, examples, max(cutoffs), beam, batch_size)
    model.language_model.train(training)
    accuracy = torch.cat(hits).float().mean(0)
    figures = {
        "loss": float(torch.cat(losses).sum(1).mean()),
        **{f"accuracy_{level + 1}": float(share) for level, share in enumerate(accuracy)},
    }
    for cutoff in cutoffs:
        found = Figures.of(rankings, examples.target, cutoff)
        figures |= {f"recall@{cutoff}": found.recall, f"ndcg@{cutoff}": found.ndcg}
    return figures | told


def calibrated(
    model: GenerativeModel, dense: DenseTerm, examples: Histories, *, beam: int
) -> dict[str, float]:
    """Choose the shares of both sides for a model that is trained.

    A training's own validations are small and narrow, to be quick; how much each side counts is
    worth more users and the beam of serving.

    Args:
        model: The model as it is now.
        dense: Its dense side.
        examples: Validation histories and targets.
        beam: Beam width of the ranking.

    Returns:
        ``dense_weight``, ``cf_share``, the ``ndcg@10`` they have, and ``users``.
    """
    training = model.language_model.training
    model.language_model.eval()
    _, weights = _both_sides(model, dense, examples, 10, beam, 64)
    model.language_model.train(training)
    weight, share = weights.best()
    figures = weights.figures(weight, share)
    return {
        "dense_weight": weight,
        "cf_share": share,
        "ndcg@10": figures.ndcg,
        "users": len(examples),
    }


def _rankings(
    model: GenerativeModel,
    objective: Objective,
    examples: Histories,
    k: int,
    beam: int,
    batch_size: int,
) -> tuple[list[Ranking], dict[str, float]]:
    """Rank without seen items, with a dense side at its best weight; say what that is."""
    if objective.dense is None:
        histories = [examples[row] for row in range(len(examples))]
        ranker = GenerativeRanker(model, beam=beam, batch_size=batch_size)
        return ranker.rank(histories, k, exclude=histories), {}
    candidates, weights = _both_sides(model, objective.dense, examples, k, beam, batch_size)
    weight, share = weights.best()
    return [each.ranking(weight, share, k) for each in candidates], {
        "dense_weight": weight,
        "cf_share": share,
        "ndcg@10_generative": weights.figures(0.0, 0.0).ndcg,
        "ndcg@10_dense": weights.figures(1.0, 0.0).ndcg,
    }


def _both_sides(
    model: GenerativeModel,
    dense: DenseTerm,
    examples: Histories,
    k: int,
    beam: int,
    batch_size: int,
) -> tuple[list[Candidates], SideWeights]:
    """Return what both sides say without seen items, and the figures of their sums."""
    histories = [examples[row] for row in range(len(examples))]
    # The share of the collaborative model is in what is searched for, so none may be zero.
    served = replace(model, dense=dense.learner.served(0.5, 0.5))
    both = HybridRanker(served, beam=beam, batch_size=batch_size)
    candidates = both.both_sides(histories, k, [RowRules(excluded=seen) for seen in histories])
    return candidates, SideWeights(candidates, examples.target)


def _with_targets(examples: Histories, rows: np.ndarray, max_history: int) -> torch.Tensor:
    """Return the newest items of each history and then its target, int64[B, width], padded."""
    sequences = [np.append(examples[int(row)][-max_history:], examples.target[row]) for row in rows]
    items = np.full((len(rows), max(map(len, sequences))), IGNORED, dtype=np.int64)
    for place, sequence in enumerate(sequences):
        items[place, : len(sequence)] = sequence
    return torch.from_numpy(items)
