"""Recipes as files: find, read, override, check, print.

A recipe is YAML with one table a stage. Scalars are read by the YAML 1.2 core rules, so ``1e-3``
is a number, ``no`` is text and ``2024-01-31`` is text. Everything wrong with a recipe is reported
in one error.
"""

import difflib
import json
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from genrec.config import DEVICE_PATTERN, NAME_PATTERN, Recipe
from genrec.errors import ConfigError
from genrec.recipe_yaml import RecipeDumper, read_scalar, read_yaml
from genrec.whole_file import replacing

_SHORT = reprlib.Repr()
_SHORT.maxstring = 60
_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "model_type": "a table of keys",
    "none_required": "null",
    "too_short": "at least one entry",
    "missing": "every key that has no default",
}
_PATTERNS = {
    NAME_PATTERN: "letters, digits, '.', '_' or '-', the first a letter or digit",
    DEVICE_PATTERN: "auto, cpu, cuda, cuda:N or mps",
}
_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def builtin_names() -> list[str]:
    """List the names of the recipes that come with genrec."""
    folder = resources.files("genrec.configs")
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    )


def builtin_summary(name: str) -> str:
    """Say what a recipe that comes with genrec is, in the words that its file begins with."""
    text = resources.files("genrec.configs").joinpath(f"{name}.yaml").read_text("utf-8")
    comment = takewhile(lambda line: line.startswith("#"), text.splitlines())
    words = " ".join(line.removeprefix("#").strip() for line in comment)
    return re.split("[.:;] ", f"{words} ")[0]


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by path or by the name of a built-in one, and check it.

    Args:
        source: Path of a YAML file, or a name that ``builtin_names`` lists.
        overrides: ``table.key=value`` each; the value is read as YAML, lists as ``[1, 5]``.

    Raises:
        ConfigError: When there is no such recipe, or it is no YAML, or keys or values are wrong;
            all wrong keys and values are named at once.
    """
    text, shown = _read_source(source)
    return parse_recipe(text, overrides, shown=shown)


def parse_recipe(text: str, overrides: Sequence[str] = (), *, shown: str = "recipe") -> Recipe:
    """Check a recipe given as YAML text; ``shown`` is what errors call it.

    Raises:
        ConfigError: When the text or an override is wrong; every problem is a line.
    """
    values = read_yaml(text, shown)
    problems = apply_overrides(values, overrides)
    try:
        recipe = Recipe.model_validate(values, strict=True)
    except ValidationError as error:
        problems += _problems_of(error, values)
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ConfigError(f"{shown} has {count}:\n{lines}")
    return recipe


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> list[str]:
    """Put ``table.key=value`` overrides into a recipe's raw values; return what was wrong."""
    problems = []
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            problems.append(
                f"--set {override}: expected table.key=value, for example index.levels=4"
            )
            continue
        try:
            value = read_scalar(text)
        except ConfigError as error:
            problems.append(f"--set {override}: {error}")
            continue
        table = values
        for part in parts[:-1]:
            if not isinstance(table.get(part), dict):
                table[part] = {}
            table = table[part]
        table[parts[-1]] = value
    return problems


def dump_recipe(recipe: Recipe) -> str:
    """Return the recipe as plain YAML that reads back to the same recipe."""
    values = recipe.model_dump(mode="json")
    return yaml.dump(values, Dumper=RecipeDumper, sort_keys=False, allow_unicode=True)


def describe_recipe(recipe: Recipe) -> str:
    """Return the recipe as YAML, each key under a comment with its help and its unit."""
    return "\n".join(_described(recipe, indent="")) + "\n"


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a resolved recipe so that the file is whole or not there."""
    with replacing(path) as partial:
        partial.write_text(dump_recipe(recipe), encoding="utf-8")


def schema() -> str:
    """Return the JSON schema of a recipe, for editors."""
    return json.dumps(Recipe.model_json_schema(), indent=2)


def key_paths(model: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    """Yield the dotted path of every key and table a recipe may have."""
    for name, field in model.model_fields.items():
        yield prefix + name
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from key_paths(inner, f"{prefix}{name}.")


def _read_source(source: str | Path) -> tuple[str, str]:
    path = Path(source)
    names = builtin_names()
    if path.is_file():
        try:
            return path.read_bytes().decode("utf-8-sig"), str(path)
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{path} is not UTF-8 text (byte {error.start}); save the recipe as UTF-8."
            ) from error
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    if str(source) in names:
        text = resources.files("genrec.configs").joinpath(f"{source}.yaml").read_text("utf-8")
        return text, f"built-in recipe {source}"
    if path.is_dir():
        raise ConfigError(f"{path} is a folder without recipe.yaml, so no run. {_known(names)}")
    near = difflib.get_close_matches(path.stem, names, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise ConfigError(f"There is no recipe or run folder {str(source)!r}. {hint}{_known(names)}")


def _known(names: Sequence[str]) -> str:
    return (
        "Give the path of a YAML file, a run folder such as runs/quickstart, or a built-in "
        f"recipe: {', '.join(names)}."
    )


def _problems_of(error: ValidationError, values: Mapping[str, Any]) -> list[str]:
    """Turn pydantic's list into one line a key, the alternatives of a union joined."""
    expected: dict[str, list[str]] = {}
    given: dict[str, Any] = {}
    lines: list[str] = []
    for detail in error.errors():
        path = _path_in(values, detail["loc"])
        if detail["type"] == "extra_forbidden":
            lines.append(_unknown_key(path, detail["input"]))
            continue
        wanted = _expectation(detail["type"], detail["msg"], detail.get("ctx", {}))
        wanted += _nearest_value(detail["input"], detail.get("ctx", {}))
        given[path] = detail["input"]
        if wanted not in expected.setdefault(path, []):
            expected[path].append(wanted)
    return lines + [
        f"{path}: given {_shown(given[path])}, expected {' or '.join(wanted)}"
        for path, wanted in expected.items()
    ]


def _path_in(values: Any, location: Sequence[int | str]) -> str:  # noqa: ANN401 - raw YAML
    """Keep the part of a location that is in the values; unions add steps of their own."""
    path = ""
    for step in location:
        if isinstance(values, Mapping) and step in values:
            path += f".{step}" if path else str(step)
        elif isinstance(values, list) and isinstance(step, int) and step < len(values):
            path += f"[{step}]"
        else:
            break
        values = values[step]
    return path or "recipe"


def _expectation(kind: str, message: str, context: Mapping[str, Any]) -> str:
    if kind == "literal_error":
        return str(context["expected"])
    if kind == "string_pattern_mismatch":
        return _PATTERNS[context["pattern"]]
    for limit, words in _LIMITS.items():
        if limit in context:
            return f"{words} {context[limit]}"
    return _EXPECTED.get(kind, message[:1].lower() + message[1:])


def _shown(value: Any) -> str:  # noqa: ANN401 - raw YAML
    return "null" if value is None else _SHORT.repr(value)


def _nearest_value(given: Any, context: Mapping[str, Any]) -> str:  # noqa: ANN401 - raw YAML
    if not isinstance(given, str) or "expected" not in context:
        return ""
    allowed = str(context["expected"]).split("'")[1::2]
    near = difflib.get_close_matches(given, allowed, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _unknown_key(path: str, value: Any) -> str:  # noqa: ANN401 - raw YAML
    valid = list(key_paths())
    table, _, name = path.rpartition(".")
    siblings = [key for key in valid if key.rpartition(".")[0] == table]
    near = difflib.get_close_matches(path, siblings, n=1, cutoff=0.75) or [
        key for key in valid if key.rpartition(".")[2] == name
    ]
    near = near or difflib.get_close_matches(path, valid, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    names = ", ".join(key.rpartition(".")[2] for key in siblings)
    return (
        f"{path}: unknown key (given {_shown(value)}), expected one of {names}{hint}"
        if siblings
        else f"{path}: unknown key (given {_shown(value)}){hint}"
    )


def _described(section: BaseModel, indent: str) -> Iterator[str]:
    plain = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if indent == "" and isinstance(value, BaseModel):
            yield ""
        yield f"{indent}# {field.description}{_unit(field.json_schema_extra)}"
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _described(value, indent + "  ")
        else:
            shown = yaml.dump(
                {name: plain[name]},
                Dumper=RecipeDumper,
                default_flow_style=True,
                sort_keys=False,
                width=2**16,
                allow_unicode=True,
            )
            yield indent + shown.rstrip("\n").removeprefix("{").removesuffix("}")


def _unit(extra: object) -> str:
    return f" [{extra['unit']}]" if isinstance(extra, dict) and "unit" in extra else ""
