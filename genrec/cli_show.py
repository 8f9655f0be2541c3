"""``genrec show``: what is in a run folder or a model folder."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from genrec import artifacts
from genrec.cli_console import answer, output, plain_table, results_table, timings_table
from genrec.errors import ArtifactError

if TYPE_CHECKING:
    from genrec.config import Recipe

_AGES = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


def show(path: Path) -> None:
    """Print what a run folder or a model folder holds.

    Raises:
        ArtifactError: When it is neither, or a part of it is damaged.
    """
    from genrec.run_folder import is_run_folder, read_recipe

    if is_run_folder(path):
        _show_run(path, read_recipe(path))
    elif artifacts.exists(path):
        _show_folder(path)
    elif not path.exists():
        raise ArtifactError(f"{path} does not exist; give a run folder such as runs/quickstart.")
    else:
        raise ArtifactError(
            f"{path} is neither a run folder (it has no recipe.yaml) nor a finished folder of one "
            "(it has no manifest.json)."
        )


def _show_run(run_folder: Path, recipe: "Recipe") -> None:
    from genrec.run_folder import read_timings

    console = output()
    console.print(_stages_table(run_folder, recipe))
    if artifacts.exists(run_folder / "dataset"):
        answer("\n".join(_dataset_lines(run_folder / "dataset")))
    if artifacts.exists(run_folder / "index"):
        answer("\n".join(_index_lines(run_folder / "index")))
        answer("\n".join(_generation_lines(run_folder)))
    timings = read_timings(run_folder)
    if timings:
        console.print(timings_table(timings))
    if artifacts.exists(run_folder / "report"):
        show_results(run_folder)


def show_results(run_folder: Path) -> None:
    """Print the results table of a run and where its report and example lists are."""
    from genrec.evaluation.results import Report

    report = run_folder / "report"
    artifacts.verify(report, "report")
    output().print(results_table(Report.load(report)))
    for name, what in (("report.md", "whole report"), ("examples.md", "example lists")):
        if (report / name).is_file():
            answer(f"{what}: {report / name}")


def _stages_table(run_folder: Path, recipe: "Recipe") -> Table:
    from genrec.pipeline import states

    table = plain_table("stage", "folder", "state", "made", title=str(run_folder))
    for state in states(run_folder, recipe, check_files=False):
        folder = run_folder / state.stage.folder
        words = "fresh" if state.fresh else "stale: " + "; ".join(state.reasons)
        made = _age(folder / artifacts.MANIFEST_NAME) if artifacts.exists(folder) else ""
        table.add_row(state.stage.verb, state.stage.folder, escape(words), made)
    return table


def _dataset_lines(folder: Path) -> Iterator[str]:
    import polars as pl

    artifacts.verify(folder, "dataset")
    users, items = (_rows(folder / name) for name in ("users.parquet", "catalog.parquet"))
    events = pl.read_parquet(folder / "interactions.parquet", columns=["part"], glob=False)
    parts = events["part"]
    counts = [int((parts == part).sum()) for part in range(3)]
    yield (
        f"dataset: {users:,} users, {items:,} items, {len(parts):,} events "
        f"({counts[0]:,} training, {counts[1]:,} validation, {counts[2]:,} test)"
    )


def _rows(path: Path) -> int:
    import polars as pl

    return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())


def _index_lines(folder: Path) -> Iterator[str]:
    artifacts.verify(folder, "index")
    quality = json.loads((folder / "quality.json").read_text(encoding="utf-8"))
    facts = artifacts.read_manifest(folder).facts
    sizes = " x ".join(str(size) for size in quality["level_sizes"])
    yield (
        f"index: {quality['items']:,} items by {facts['method']}, codes {sizes}; "
        f"{facts['items_sharing_before']:,} items shared their codes before collisions were "
        f"resolved ({facts['collision_policy']}), {facts['items_sharing']:,} after"
    )
    for row in quality["levels_after"]:
        yield (
            f"  level {row['level'] + 1}: {row['used']} of {row['size']} codes used, "
            f"perplexity {row['perplexity']:.1f}"
        )
    yield f"  whole report: {folder / 'quality.md'}"


def _generation_lines(run_folder: Path) -> Iterator[str]:
    from genrec.semantic_ids.generations import lineage

    try:
        chain = lineage(run_folder)
    except ArtifactError as error:
        yield f"  later generations cannot be used: {error}"
        return
    for link in chain[1:]:
        yield (
            f"  generation {link.number}: {link.added:,} items added, {link.removed:,} removed; "
            f"{link.folder}"
        )


def _show_folder(folder: Path) -> None:
    manifest = artifacts.verify(folder)
    table = plain_table("file", "bytes", title=f"{folder}: {manifest.kind}", right=["bytes"])
    for name in manifest.files:
        table.add_row(escape(name), f"{(folder / name).stat().st_size:,}")
    output().print(table)
    answer(
        f"digest {manifest.digest}\nmade by genrec {manifest.genrec_version}, "
        f"seed {manifest.seed}, {_age(folder / artifacts.MANIFEST_NAME)}"
    )
    for name, source in manifest.inputs.items():
        answer(f"made from {name} {source['digest']}")


def _age(path: Path) -> str:
    seconds = max(0.0, time.time() - path.stat().st_mtime)
    for length, unit in _AGES:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"
