"""Stage evaluate: measure the predictions of a run; write tables, a plot and example lists."""

import dataclasses
import logging
from pathlib import Path

from genrec import artifacts
from genrec.config import Recipe
from genrec.data.dataset import Dataset
from genrec.errors import ArtifactError
from genrec.evaluation.evaluate import evaluate
from genrec.evaluation.examples import examples_markdown
from genrec.evaluation.plot import plot
from genrec.evaluation.predictions import Predictions, models_in
from genrec.evaluation.results import Report
from genrec.evaluation.tables import to_markdown
from genrec.runtime import Runtime

__all__ = ["Report", "in_table_order", "run"]

logger = logging.getLogger(__name__)

TABLE_ORDER = ("popularity", "transition", "sasrec", "genrec")


def run(run_folder: Path, recipe: Recipe, runtime: Runtime) -> Path:
    """Measure every model of ``predictions`` and write ``report``.

    Writes ``report.json``, ``report.md``, ``report.png`` and ``examples.md``.

    Args:
        run_folder: Folder of the run; holds ``dataset`` and ``predictions``.
        recipe: The recipe; only its evaluate section is read.
        runtime: Seed of the bootstrap and of the example lists, progress bars.

    Returns:
        The report folder.

    Raises:
        ArtifactError: When an input is missing or damaged, or the predictions are of another
            dataset than the one in the run.
    """
    section = recipe.evaluate
    source, lists = run_folder / "dataset", run_folder / "predictions"
    dataset = Dataset.load(source)
    manifest = artifacts.verify(lists, "predictions")
    made_from = manifest.inputs.get("dataset", {}).get("digest")
    digest = artifacts.read_manifest(source).digest
    if made_from != digest:
        raise ArtifactError(
            f"{lists} was made from dataset {str(made_from)[:12]}, but {source} is {digest[:12]}; "
            "run `genrec recommend` again."
        )
    predictions = [Predictions.load(lists, model) for model in in_table_order(models_in(lists))]
    report = evaluate(
        predictions,
        dataset,
        section.cutoffs,
        samples=section.bootstrap,
        seed=runtime.seed,
        quiet=runtime.quiet,
    )
    seeds = {"dataset": artifacts.read_manifest(source).seed, "predictions": manifest.seed}
    report = dataclasses.replace(report, protocol=report.protocol | {"seeds": seeds})
    folder = run_folder / "report"
    with artifacts.writing(
        folder,
        "report",
        seed=runtime.seed,
        config=section.model_dump(mode="json"),
        inputs={"dataset": source, "predictions": lists},
    ) as partial:
        report.save(partial)
        (partial / "report.md").write_text(to_markdown(report), encoding="utf-8")
        plot(report, partial / "report.png")
        page = examples_markdown(predictions, dataset, report.protocol["part"], seed=runtime.seed)
        (partial / "examples.md").write_text(page, encoding="utf-8")
    recall, _ = report.headline
    for row in report.rows:
        logger.info("%s: %s %.4f", row["model"], recall, row[recall])
    return folder


def in_table_order(models: list[str]) -> list[str]:
    """Return the models as tables show them: baselines first, names unknown here last.

    >>> in_table_order(["other", "genrec", "popularity"])
    ['popularity', 'genrec', 'other']
    """
    known = [model for model in TABLE_ORDER if model in models]
    return known + sorted(set(models) - set(known))
