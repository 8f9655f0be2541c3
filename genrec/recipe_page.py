"""The page of the documentation that lists every key of a recipe, made from the schema itself."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from genrec.config import Recipe

_INTRODUCTION = """\
# Every key of a recipe

A recipe is a YAML file with one table a stage. Every key has a default, so a recipe names only what
differs. Print one whole, with these same explanations, by `genrec config quickstart-fast`; list the
built-in ones by `genrec config`.

- `--set table.key=value` overrides a key on the command line and may be repeated. A list is written
  in brackets, `--set "evaluate.cutoffs=[1, 10]"`, and no value as `null`.
- Unknown keys and wrong values are errors. All of them are named at once, each with its path, and
  nothing is run.
- Scalars follow YAML 1.2: `1e-3` is a number and `no` is text. Text that looks like a number needs
  quotes.
- `genrec config --schema` prints the JSON schema, which editors can use to complete and check.

This page is made from the schema; a test fails when the two differ, and `make fix` makes it anew.
"""
_LIMITS = (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than"))
_KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text"}


def recipe_page() -> str:
    """Return the page as Markdown."""
    top = {name: field for name, field in Recipe.model_fields.items() if not _section_of(field)}
    parts = [_INTRODUCTION, "## Top level", _table(top, "")]
    for name, field in Recipe.model_fields.items():
        section = _section_of(field)
        if section is not None:
            parts += _section_parts(name, section, str(field.description))
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def write_recipe_page(path: Path) -> None:
    """Write the page to a file."""
    path.write_text(recipe_page(), encoding="utf-8")


def _section_parts(name: str, section: type[BaseModel], help: str) -> Iterator[str]:
    yield f"## {name}"
    yield help
    plain = {key: field for key, field in section.model_fields.items() if not _section_of(field)}
    yield _table(plain, f"{name}.")
    for key, field in section.model_fields.items():
        inner = _section_of(field)
        if inner is not None:
            yield f"### {name}.{key}"
            yield str(field.description)
            yield _table(inner.model_fields, f"{name}.{key}.")


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _table(fields: dict[str, FieldInfo], prefix: str) -> str:
    lines = ["| key | default | values | what it does |", "| :--- | :--- | :--- | :--- |"]
    for name, field in fields.items():
        default = json.dumps(field.get_default(call_default_factory=True), ensure_ascii=False)
        help = str(field.description).replace("|", "\\|")
        lines.append(f"| `{prefix}{name}` | `{default}` | {_values(field)} | {help} |")
    return "\n".join(lines)


def _values(field: FieldInfo) -> str:
    """Say in words what may be given: the kind, its unit and its limits."""
    words = _kind(field.annotation)
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "unit" in extra:
        words += f" ({extra['unit']})"
    limits = [
        f"{phrase} {getattr(limit, name)}"
        for limit in field.metadata
        for name, phrase in _LIMITS
        if hasattr(limit, name)
    ]
    return ", ".join([words, *limits])


def _kind(annotation: Any) -> str:  # noqa: ANN401 - a type of any form
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (UnionType, Union):
        # No value comes last, whatever the order in the schema.
        ordered = sorted(arguments, key=lambda argument: argument is NoneType)
        return " or ".join(_kind(argument) for argument in ordered)
    if origin is list:
        return f"list of {_kind(arguments[0])}"
    if annotation is NoneType:
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"tables of {', '.join(annotation.model_fields)}"
    if annotation in _KINDS:
        return _KINDS[annotation]
    return _kind(arguments[0])  # Annotated: the kind comes first, its limits after it.
