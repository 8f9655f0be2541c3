"""The report as a noun: what was measured, of which models, and how."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from genrec.errors import ArtifactError


@dataclass(frozen=True)
class Report:
    """How good the lists of several models are.

    Attributes:
        rows: One row a model, all on the same examples: ``model``, ``examples``, ``recall@K``,
            ``ndcg@K``, ``mrr@K``, ``coverage@K`` for each cutoff, ``KEY_low`` and ``KEY_high``
            (95 % interval) for the headline metrics, ``invalid_rate``, ``duplicate_rate``,
            ``seen_rate``, ``mean_length``, ``short_lists``, ``seconds``.
        full_rows: The same without intervals, each model on all of its own examples.
        differences: One row a model: headline metric minus that of the reference model, with the
            interval of the paired bootstrap.
        slices: One row for each slice and model: ``by``, ``slice``, ``model``, ``n`` and the
            headline metrics.
        protocol: How it was measured.
        best_possible: Metric key -> the best value any recommender can reach; empty when unknown.
    """

    rows: list[dict[str, Any]]
    full_rows: list[dict[str, Any]]
    differences: list[dict[str, Any]]
    slices: list[dict[str, Any]]
    protocol: dict[str, Any]
    best_possible: dict[str, float]

    @property
    def models(self) -> list[str]:
        """Names of the models in the order of the table."""
        return [str(row["model"]) for row in self.rows]

    @property
    def headline(self) -> tuple[str, str]:
        """The two metrics with intervals: recall and NDCG at 10, else at the largest cutoff."""
        cutoff = headline_cutoff(self.protocol["cutoffs"])
        return f"recall@{cutoff}", f"ndcg@{cutoff}"

    def save(self, folder: Path) -> None:
        """Write ``report.json`` into the folder."""
        text = json.dumps(asdict(self), indent=2, allow_nan=False)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Report":
        """Read what ``save`` wrote.

        Raises:
            ArtifactError: When the file is missing or not a report.
        """
        path = folder / "report.json"
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ArtifactError(
                f"{path} cannot be read as a report ({error}); run `genrec evaluate` again."
            ) from error


def headline_cutoff(cutoffs: Sequence[int]) -> int:
    """Return 10 when it is measured, else the largest cutoff."""
    return 10 if 10 in cutoffs else max(cutoffs)
