"""The verbs of the command line that run stages or use what they made."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from genrec import processes
from genrec.errors import RequestError
from genrec.stages import STAGES

if TYPE_CHECKING:
    from genrec.config import Recipe

Target = Annotated[
    str, typer.Argument(metavar="RECIPE|RUN", help="Recipe file, built-in recipe or run folder.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override, such as index.levels=4; repeat."),
]
RunFolder = Annotated[
    Path | None, typer.Option("--run", metavar="DIR", help="Run folder; default runs/NAME.")
]
# Items of a list where nothing is said of -k.
_USUAL = 10
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]


class ShortGroup(TyperGroup):
    """A group whose ``genrec GROUP RECIPE`` is short for ``genrec GROUP VERB RECIPE``."""

    short_for: str

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - as the base
        """Put the verb before arguments that name no verb of this group."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [self.short_for, *args]
        return super().parse_args(ctx, args)


def open_target(
    target: str, run: Path | None, overrides: list[str] | None
) -> "tuple[Recipe, Path]":
    """Return the recipe that a target means and the run folder it belongs to."""
    from genrec.recipe_file import load_recipe
    from genrec.run_folder import is_run_folder, read_recipe

    folder = Path(target)
    if is_run_folder(folder):
        return read_recipe(folder, overrides or []), run or folder
    recipe = load_recipe(target, overrides or [])
    return recipe, run or Path("runs") / recipe.name


def _run_one(
    verb: str, target: str, run: Path | None, overrides: list[str] | None, quiet: bool
) -> Path:
    """Run one stage and say where its folder is."""
    from genrec.cli_console import say
    from genrec.pipeline import run_stage, runtime_of
    from genrec.run_folder import read_timings

    recipe, run_folder = open_target(target, run, overrides)
    folder = run_stage(verb, run_folder, recipe, runtime_of(recipe, quiet=quiet))
    if processes.is_first():
        say(f"{verb}: {read_timings(run_folder)[verb]:.1f} s -> {folder}")
    return run_folder


def stage_command(verb: str) -> Callable[..., None]:
    """Return the command of a stage: run it, whether it is stale or not."""

    def command(
        target: Target, overrides: Overrides = None, run: RunFolder = None, quiet: Quiet = False
    ) -> None:
        _run_one(verb, target, run, overrides, quiet)

    return command


def recommend(
    target: Target,
    overrides: Overrides = None,
    run: RunFolder = None,
    history: Annotated[
        str | None,
        typer.Option(metavar="ID,ID", help="Item ids, oldest first; quote an id with a comma."),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option("-k", min=1, help="Items to recommend; default 10, or all --candidates."),
    ] = None,
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Also recommend items of the history.")
    ] = False,
    rules: Annotated[
        str | None,
        typer.Option(
            metavar="JSON|@FILE",
            help="Rules: deny, allow, where, at_most, boosts; @FILE reads them.",
        ),
    ] = None,
    candidates: Annotated[
        str | None,
        typer.Option(
            metavar="ID,ID",
            help="Order these by their titles, for models that learned train.bridge.candidates.",
        ),
    ] = None,
    everyone: Annotated[
        Path | None,
        typer.Option(
            "--all-users", metavar="FILE", help="Write lists for all users to a Parquet file."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Recommend for one history, for all users, or for the users of the test part."""
    if everyone is not None and history is not None:
        raise RequestError("give --history or --all-users, not both.")
    if candidates is not None and (history is None or rules is not None or allow_seen):
        raise RequestError("--candidates goes with --history, without --rules and --allow-seen.")
    if history is None and everyone is None:
        if rules is not None:
            raise RequestError("--rules goes with --history or --all-users.")
        _run_one("recommend", target, run, overrides, quiet)
        return
    from pkgutil import resolve_name

    from genrec import Recommender
    from genrec.cli_answer import show_choice, show_recommendation
    from genrec.cli_console import answer
    from genrec.cli_request import read_ids

    path, recipe = _model_and_recipe(target, run, overrides)
    recommender = Recommender.from_pretrained(
        path,
        device=recipe.runtime.device,
        dtype=recipe.runtime.dtype,
        engine=recipe.runtime.engine,
        beam=recipe.recommend.beam,
        new_item_weight=recipe.recommend.new_item_weight,
        score=recipe.recommend.score,
        dense_weight=recipe.recommend.dense_weight,
    )
    asked = _rules(rules, exclude_seen=not allow_seen)
    if everyone is not None:
        # By name, as the stages are: the door must not import the rooms behind it.
        write = resolve_name("genrec.serving.all_users:recommend_all")
        answer(str(write(path, recommender, everyone, k=k or _USUAL, rules=asked, quiet=quiet)))
        return
    item_ids = read_ids(history or "", "--history")
    if candidates is not None:
        chooser = resolve_name("genrec.serving.choose:ItemChooser")(recommender)
        [choice] = chooser.choose([item_ids], [read_ids(candidates, "--candidates")])
        show_choice(replace(choice, items=choice.items[:k]), item_ids, as_json=as_json)
    else:
        [result] = recommender.recommend([item_ids], k=k or _USUAL, rules=asked)
        show_recommendation(result, item_ids, as_json=as_json)


def _rules(given: str | None, *, exclude_seen: bool) -> Any:  # noqa: ANN401 - Rules of serving
    """Return the rules that ``--rules`` and ``--allow-seen`` mean."""
    from dataclasses import fields
    from pkgutil import resolve_name

    from genrec.cli_request import read_rules

    rules = resolve_name("genrec.serving.rules:Rules")
    known = [field.name for field in fields(rules) if field.name != "exclude_seen"]
    return rules(exclude_seen=exclude_seen, **read_rules(given, known))


def _model_and_recipe(
    target: str, run: Path | None, overrides: list[str] | None
) -> "tuple[Path, Recipe]":
    """Return what to load a model from; a model folder alone goes with the default recipe."""
    from genrec import artifacts
    from genrec.recipe_file import parse_recipe

    folder = Path(target)
    if artifacts.exists(folder):
        return folder, parse_recipe("{}", overrides or [], shown="the overrides")
    recipe, run_folder = open_target(target, run, overrides)
    return run_folder, recipe


def evaluate(
    target: Target, overrides: Overrides = None, run: RunFolder = None, quiet: Quiet = False
) -> None:
    """Measure the predictions of a run and print the table."""
    from genrec.cli_show import show_results

    show_results(_run_one("evaluate", target, run, overrides, quiet))


def serve(
    target: Annotated[
        str, typer.Argument(metavar="RUN|MODEL", help="Run folder, model folder or recipe.")
    ],
    overrides: Overrides = None,
    run: RunFolder = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = None,
) -> None:
    """Answer POST /v1/recommend over HTTP from a trained model."""
    from pkgutil import resolve_name

    path, recipe = _model_and_recipe(target, run, overrides)
    section = recipe.serve
    # By name, as the stages are: the door must not import the rooms behind it.
    resolve_name("genrec.serving.serve:serve")(
        path,
        host=host or section.host,
        port=section.port if port is None else port,
        beam=section.beam,
        new_item_weight=section.new_item_weight,
        score=section.score,
        dense_weight=section.dense_weight,
        prefix_cache_bytes=section.prefix_cache_bytes,
        max_k=section.max_k,
        max_history=section.max_history,
        device=recipe.runtime.device,
        dtype=recipe.runtime.dtype,
        engine=recipe.runtime.engine,
    )


def run(
    target: Target,
    overrides: Overrides = None,
    run: RunFolder = None,
    until: Annotated[
        str | None, typer.Option(metavar="VERB", help="Stop after this stage.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say which stages are stale, and why.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Run the stages that are stale, in order, and say why they are."""
    from genrec.cli_console import output, say, timings_table
    from genrec.cli_show import show_results
    from genrec.pipeline import run_stale, runtime_of, states

    recipe, run_folder = open_target(target, run, overrides)
    if until is not None:
        _check_verb(until)
    if dry_run:
        for state in states(run_folder, recipe):
            say(str(state))
        return
    seconds = run_stale(
        run_folder, recipe, runtime_of(recipe, quiet=quiet), announce=say, until=until
    )
    if seconds:
        output().print(timings_table(seconds))
    if until in (None, "evaluate"):
        show_results(run_folder)


def _check_verb(verb: str) -> None:
    verbs = [stage.verb for stage in STAGES]
    if verb not in verbs:
        raise typer.BadParameter(f"--until {verb}: expected one of {', '.join(verbs)}.")
