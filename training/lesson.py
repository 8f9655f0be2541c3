"""What a training goes through: batches, a loss and figures, ready for the trainer."""

from collections.abc import Callable
from dataclasses import dataclass, field

from transformers import TrainerCallback

from genrec.config_train import TrainConfig
from genrec.data.dataset import Dataset
from genrec.model.generative import GenerativeModel
from genrec.runtime import Runtime
from genrec.training.batches import Augmentation, BatchPlan, Plan
from genrec.training.candidate_objective import CandidateObjective, with_question
from genrec.training.objectives import Objective


@dataclass(frozen=True)
class Lesson:
    """What is trained on, how it is judged, and what is said of it.

    Attributes:
        plan: All batches of the training, in order.
        objective: The loss.
        measure: Gives figures of validation beside those of ranked lists.
        contents: What the plan holds, for the log.
        callbacks: What the trainer calls besides.
    """

    plan: Plan
    objective: Objective | CandidateObjective
    contents: str
    measure: Callable[[], dict[str, float]] = dict
    callbacks: list[TrainerCallback] = field(default_factory=list)


def history_lesson(
    model: GenerativeModel,
    objective: Objective,
    config: TrainConfig,
    dataset: Dataset,
    runtime: Runtime,
) -> Lesson:
    """Return the lesson of item histories, in one form.

    Args:
        model: The model that is trained.
        objective: What it is trained to do on histories.
        config: How.
        dataset: The events; its training part alone is read.
        runtime: Its seed orders and varies the histories.
    """
    plan = BatchPlan(
        dataset.sequences(),
        epochs=config.epochs,
        batch_items=max(1, config.batch_tokens // model.index.levels),
        # The last item of a history is its answer, so it is one longer than what is read.
        augmentation=Augmentation(
            model.prompts.max_history + 1, config.crop_probability, config.item_dropout
        ),
        seed=runtime.seed,
    )
    contents = f"{len(dataset.sequences())} users, batch widths {plan.widths} items"
    return Lesson(
        plan,
        with_question(objective, model, config, dataset.sequences().lengths, runtime.seed),
        contents,
    )
