"""Whether lists of several models may stand in one table, and at which lengths."""

import logging
from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from genrec.data.dataset import PARTS, Part
from genrec.data.histories import Histories
from genrec.errors import ConfigError, DataError
from genrec.evaluation.predictions import Predictions, check

logger = logging.getLogger(__name__)


def check_together(predictions: Sequence[Predictions]) -> Part:
    """Check that predictions are lists for the same part under the same rules; return the part.

    Raises:
        DataError: When there are none, a model comes twice, or part or rules differ.
    """
    if not predictions:
        raise DataError("there are no predictions to evaluate; run `genrec recommend` first.")
    names = [one.model for one in predictions]
    if len(set(names)) != len(names):
        raise DataError(f"a model comes more than once: {', '.join(names)}; give each once.")
    for one in predictions:
        check(one)
    for key in ("part", "exclude_seen"):
        given = {one.model: one.facts.get(key) for one in predictions}
        if len(set(given.values())) > 1:
            raise DataError(
                f"the models were run with different {key}: {given}; they cannot be compared. "
                "Run `genrec recommend` for all of them with one setting."
            )
    for part in PARTS:
        if part == predictions[0].facts["part"]:
            return part
    raise DataError(
        f"the predictions are for part {predictions[0].facts['part']!r}; expected one of {PARTS}."
    )


def check_belongs(one: Predictions, histories: Histories, items: int) -> None:
    """Check that lists are for these histories and this many catalogue items.

    Raises:
        DataError: When they name an example or an item that the dataset does not have.
    """
    if len(one.examples) and (one.examples.max() >= len(histories) or one.examples.min() < 0):
        raise DataError(
            f"{one.model!r} was asked for example {one.examples.max()}, but the dataset has "
            f"{len(histories)} examples; the lists are of another dataset. Run "
            "`genrec recommend` again."
        )
    if len(one.item) and one.item.max() >= items:
        raise DataError(
            f"{one.model!r} recommends item row {one.item.max()}, but the catalogue has {items} "
            "items; the lists are of another dataset. Run `genrec recommend` again."
        )


def common_examples(predictions: Sequence[Predictions]) -> NDArray[np.int64]:
    """Return the examples that every model was asked for, int64[n], sorted.

    Raises:
        DataError: When there is none.
    """
    common = reduce(np.intersect1d, [one.examples for one in predictions], predictions[0].examples)
    if not len(common):
        raise DataError(
            "the models have no example in common; run `genrec recommend` for all of them with "
            "the same users and seed."
        )
    return common


def known_cutoffs(cutoffs: Sequence[int], longest: int) -> list[int]:
    """Return the cutoffs that lists of this length can answer, sorted; warn about the others.

    Raises:
        ConfigError: When none is left.
    """
    kept = sorted({int(cutoff) for cutoff in cutoffs if 1 <= cutoff <= longest})
    if not kept:
        raise ConfigError(
            f"evaluate.cutoffs is {list(cutoffs)}, but the lists hold {longest} items; name a "
            f"cutoff between 1 and {longest}, or raise recommend.k."
        )
    if len(kept) < len(set(cutoffs)):
        logger.warning(
            "cutoffs %s cannot be measured: the lists were asked for %d items",
            sorted(set(cutoffs) - set(kept)),
            longest,
        )
    return kept
