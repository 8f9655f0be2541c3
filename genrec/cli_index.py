"""The verbs below ``genrec index``: what can be done with the codes of items."""

import json
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from genrec.cli_stages import Overrides, Quiet, RunFolder, ShortGroup, open_target, stage_command
from genrec.stages import stage_of

if TYPE_CHECKING:
    from genrec.runtime import Runtime

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder that has an index.")]
Format = Annotated[
    Literal["lcrec", "pid2sid", "grid"],
    typer.Option(
        help="lcrec: JSON of item -> tokens (LC-Rec, LETTER, MiniOneRec); pid2sid: Parquet of "
        "item_id, sid; grid: array of codes (.safetensors, .npy)."
    ),
]
KeyedBy = Annotated[
    Literal["item_id", "row"],
    typer.Option(help="Whether the file names items by id or by catalogue row."),
]


class IndexGroup(ShortGroup):
    """``genrec index RECIPE`` is short for ``genrec index build RECIPE``."""

    short_for = "build"


app = typer.Typer(
    cls=IndexGroup,
    no_args_is_help=True,
    help=f"{stage_of('index').help} `genrec index RECIPE` is `genrec index build RECIPE`.",
)
app.command("build", help=stage_of("index").help)(stage_command("index"))


def _runtime(run: Path, quiet: bool) -> "Runtime":
    from genrec.pipeline import runtime_of
    from genrec.run_folder import read_recipe

    return runtime_of(read_recipe(run), quiet=quiet)


@app.command()
def add(
    run: Run,
    items: Annotated[Path, typer.Argument(metavar="FILE", help="Items to add.")],
    quiet: Quiet = False,
) -> None:
    """Give codes to new items; no item that is there gets others."""
    from genrec.cli_console import answer

    # By name, as the stages are: the door must not import the rooms behind it.
    folder = resolve_name("genrec.tokenization.generations:add")(run, items, _runtime(run, quiet))
    _say_what_changed(folder)
    answer(str(folder))


@app.command()
def remove(
    run: Run,
    item_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Items to remove.")],
) -> None:
    """Take items out of the index; a run that is served never recommends them again."""
    from genrec.cli_console import answer

    folder = resolve_name("genrec.tokenization.generations:remove")(run, item_ids)
    _say_what_changed(folder)
    answer(str(folder))


def _say_what_changed(folder: Path) -> None:
    from genrec import artifacts
    from genrec.cli_console import say

    facts = artifacts.read_manifest(folder, "index").facts
    say(
        f"generation {facts['generation']}: {facts['added']} items added, {facts['removed']} "
        f"removed, {facts.get('refused', 0)} refused; {facts['items']} items now."
    )
    if facts.get("refused"):
        say(f"Which rows were refused, and why: {folder / 'quarantine.parquet'}", style="yellow")


@app.command("export")
def export_codes(
    run: Run,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.")],
    format: Format = "lcrec",
    keyed_by: KeyedBy = "item_id",
) -> None:
    """Write the codes of the newest generation for other programs."""
    from genrec.cli_console import answer
    from genrec.data.catalog import Catalog
    from genrec.semantic_ids.generations import verified
    from genrec.semantic_ids.item_index import ItemIndex

    chain = verified(run)
    newest = chain[-1].folder
    catalog = Catalog.load(run / "dataset" if len(chain) == 1 else newest)
    write = resolve_name("genrec.tokenization.exchange:export_index")
    write(ItemIndex.load(newest), catalog.item_ids, path, format, keyed_by=keyed_by)
    answer(str(path))


@app.command("import")
def import_codes(
    target: Annotated[
        str, typer.Argument(metavar="RECIPE|RUN", help="Run folder that has a dataset.")
    ],
    path: Annotated[Path, typer.Argument(metavar="FILE", help="File to read.")],
    format: Format = "lcrec",
    keyed_by: KeyedBy = "item_id",
    overrides: Overrides = None,
    run: RunFolder = None,
    quiet: Quiet = False,
) -> None:
    """Take the codes of another program as the index of a run."""
    from genrec.cli_console import answer
    from genrec.pipeline import runtime_of
    from genrec.run_folder import keeping_recipe, locked

    recipe, folder = open_target(target, run, overrides)
    read = resolve_name("genrec.tokenization.imported:import_into")
    with locked(folder), keeping_recipe(folder, recipe) as finished:
        runtime = runtime_of(recipe, quiet=quiet)
        written = read(folder, path, format, recipe, runtime, keyed_by=keyed_by)
        finished.append("index")
    answer(str(written))


@app.command()
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="The first at length, others beside it.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default RUN/index-report.html."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as JSON; write no page.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write a page about the quality of an index, or of several side by side."""
    from genrec.cli_console import answer

    if as_json:
        quality_of = resolve_name("genrec.tokenization.report:quality_of")
        answer(json.dumps({str(run): quality_of(run) for run in runs}, ensure_ascii=False))
        return
    path = output or runs[0] / "index-report.html"
    comparison = resolve_name("genrec.tokenization.report:report")(runs, path, quiet=quiet)
    if comparison is not None:
        answer(comparison.to_markdown())
    answer(str(path))
