"""What the training on events left, so that what follows can be stopped and tried again alone."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from genrec import processes
from genrec.training.averaging import WeightCopy
from genrec.training.learner import Learner

logger = logging.getLogger(__name__)

Log = list[dict[str, Any]]


def tuned_once(
    learner: Learner, beside: Mapping[str, nn.Module], folder: Path, learn: Callable[[], Log]
) -> Log:
    """Train a model on events, unless a stopped run did so; return the log of that training.

    A training that came to its end is never gone on with: the trainer would make one more step.

    Args:
        learner: The model; its trained weights are those of the end of the training afterwards.
        beside: What is trained beside the language model, by name.
        folder: Where the weights and the log lie; a folder that exists is whole.
        learn: Trains the model and returns the log.
    """
    trained = nn.ModuleDict({"model": learner.trained, **beside})
    if folder.is_dir():
        logger.info("the training on events is done, in %s", folder)
        kept = WeightCopy(trained)
        kept.load(folder)
        kept.swap()
        learner.model.facts.update(_read(folder / "facts.json"))
        log: Log = _read(folder / "training.json")
        return log
    log = learn()
    with processes.first_before_others():
        if processes.is_first():
            _keep(log, trained, learner.model.facts, folder)
    return log


def _keep(log: Log, trained: nn.Module, facts: dict[str, Any], folder: Path) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    WeightCopy(trained).save(partial)
    (partial / "training.json").write_text(json.dumps(log), encoding="utf-8")
    # What the training says of the model, such as the tasks it was tuned on.
    (partial / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    os.replace(partial, folder)


def _read(path: Path) -> Any:  # noqa: ANN401 - what a JSON file holds
    return json.loads(path.read_text(encoding="utf-8"))
