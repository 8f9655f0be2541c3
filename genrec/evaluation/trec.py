"""Predictions as TREC run and qrels files, for any tool that reads them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from genrec.data.histories import Histories
from genrec.errors import DataError
from genrec.evaluation.predictions import Predictions


def write_trec(predictions: Predictions, histories: Histories, folder: Path) -> tuple[Path, Path]:
    """Write ``MODEL.run`` and ``MODEL.qrels`` so that other tools can measure the same lists.

    The query is the example, the document the catalogue row. The score in the run file is minus
    the rank, because TREC tools sort by score and would break the model's ties in their own way.
    An item that a list holds twice is written once, at its first place; an entry that is no item
    is written as a document of its own that is never relevant.

    Args:
        predictions: One model's lists.
        histories: The examples of the part that they were made for.
        folder: Folder to write into.

    Returns:
        The run file and the qrels file.

    Raises:
        DataError: When an example is not in the histories.
    """
    if len(predictions.examples) and predictions.examples.max() >= len(histories):
        raise DataError(
            f"{predictions.model!r} was asked for example {predictions.examples.max()}, but there "
            f"are {len(histories)}; give the histories of the part the lists were made for."
        )
    run = folder / f"{predictions.model}.run"
    qrels = folder / f"{predictions.model}.qrels"
    with run.open("w", encoding="utf-8") as handle:
        handle.writelines(_run_lines(predictions))
    with qrels.open("w", encoding="utf-8") as handle:
        for example in np.sort(predictions.examples).tolist():
            handle.write(f"{example} 0 {histories.target[example]} 1\n")
    return run, qrels


def _run_lines(predictions: Predictions) -> Iterator[str]:
    written: set[int] = set()
    current = -1
    for example, item, rank in zip(
        predictions.example.tolist(),
        predictions.item.tolist(),
        predictions.rank.tolist(),
        strict=True,
    ):
        if example != current:
            written, current = set(), example
        if item in written:
            continue
        if item >= 0:
            written.add(item)
        document = str(item) if item >= 0 else f"no-item-{rank}"
        yield f"{example} Q0 {document} {rank} {-rank} {predictions.model}\n"
