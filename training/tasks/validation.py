"""How good a model is at each of its tasks while it trains."""

import numpy as np
import torch

from genrec.decoding.ranker import GenerativeRanker
from genrec.model.generative import GenerativeModel
from genrec.model.task_prompts import Encoded
from genrec.training.dense_weight import Figures
from genrec.training.tasks.examples import ValidationExamples
from genrec.training.tasks.objective import TaskObjective
from genrec.training.tasks.plan import padded
from genrec.training.tasks.table import TASKS


def validate_tasks(
    model: GenerativeModel,
    objective: TaskObjective,
    examples: ValidationExamples,
    tasks: tuple[str, ...],
    *,
    beam: int = 10,
    batch_size: int = 32,
) -> dict[str, float]:
    """Measure a model on each task; a task without a validation example is left out.

    Args:
        model: The model as it is now.
        objective: Gives the losses.
        examples: Validation examples.
        tasks: Names of the tasks.
        beam: Beam width of the rankings.
        batch_size: Examples at once.

    Returns:
        ``loss_TASK`` in nats a token of the answer and, where the answer is the next item,
        ``ndcg@10_TASK`` of lists without seen items.
    """
    training = model.language_model.training
    model.language_model.eval()
    ranker = GenerativeRanker(model, beam=beam, batch_size=batch_size)
    figures: dict[str, float] = {}
    for task in tasks:
        made = examples.examples(task)
        if not made:
            continue
        encoded = [example for _, example in made]
        figures[f"loss_{task}"] = _loss(objective, encoded, model.pad_token, batch_size)
        if TASKS[task].names_item:
            places = [place for place, _ in made]
            prompts = [example.tokens[: example.answer] for example in encoded]
            seen = [examples.histories[place] for place in places]
            rankings = ranker.rank_prompts(prompts, 10, exclude=seen)
            targets = examples.histories.target[np.asarray(places)]
            figures[f"ndcg@10_{task}"] = Figures.of(rankings, targets).ndcg
    model.language_model.train(training)
    return figures


@torch.inference_mode()
def _loss(objective: TaskObjective, examples: list[Encoded], pad: int, batch_size: int) -> float:
    """Return the mean loss of the examples, those of like length read together."""
    device = next(objective.model.parameters()).device
    examples = sorted(examples, key=lambda example: len(example.tokens))
    losses = []
    for start in range(0, len(examples), batch_size):
        batch = padded(examples[start : start + batch_size], pad)
        losses.append(
            objective.sequence_losses(batch["tokens"].to(device), batch["answers"].to(device))
        )
    return float(torch.cat(losses).mean())
