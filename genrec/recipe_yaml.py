"""YAML as recipes use it: safe, YAML 1.2 scalars, and a key given twice is an error."""

import re
from typing import Any

import yaml
from yaml.nodes import MappingNode, ScalarNode

from genrec.errors import ConfigError

_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
_BOOLEAN = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_INTEGER = re.compile(r"^[-+]?[0-9]+$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_RULES: tuple[tuple[str, re.Pattern[str], list[str]], ...] = (
    ("tag:yaml.org,2002:null", _NULL, ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", _BOOLEAN, list("tTfF")),
    ("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789")),
    ("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789")),
)


class RecipeLoader(yaml.SafeLoader):
    """A safe loader that reads scalars by YAML 1.2 and refuses a key given twice."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping; keys must be text and differ."""
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                raise ConfigError(f"line {line}: a key must be plain text.")
            if key_node.value in seen:
                raise ConfigError(
                    f"line {line}: the key {key_node.value!r} is given twice "
                    f"(first on line {seen[key_node.value]}); keep one."
                )
            seen[key_node.value] = line
        # Keys stay text, so that an unknown key 3 or true is reported by its own spelling.
        return {
            key_node.value: self.construct_object(value_node, deep=True)
            for key_node, value_node in node.value
        }


class RecipeDumper(yaml.SafeDumper):
    """Writes what ``RecipeLoader`` reads: text that looks like a number gets quotes.

    Text with line breaks stays on one line, so that a key is a line.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401 - any value of a recipe
        """Write equal lists twice instead of pointing from one to the other."""
        return True


def _represent_text(dumper: RecipeDumper, text: str) -> ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, '"' if "\n" in text else None)


def _construct_integer(loader: RecipeLoader, node: ScalarNode) -> int:
    return int(loader.construct_scalar(node))


for _tag, _pattern, _first in _RULES:
    RecipeLoader.add_implicit_resolver(_tag, _pattern, _first)
    RecipeDumper.add_implicit_resolver(_tag, _pattern, _first)
RecipeDumper.add_representer(str, _represent_text)
RecipeLoader.add_constructor("tag:yaml.org,2002:int", _construct_integer)


def read_yaml(text: str, shown: str) -> dict[str, Any]:
    """Read YAML text that must be a mapping.

    Args:
        text: The YAML.
        shown: What errors call it.

    Raises:
        ConfigError: When the text is empty, no YAML, no mapping, or has a key twice; with line.
    """
    try:
        values = yaml.load(text, Loader=RecipeLoader)  # noqa: S506 - RecipeLoader is a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{shown} is not YAML: {_explain(error, text)}") from error
    except RecursionError as error:
        raise ConfigError(f"{shown} is nested too deeply to be a recipe.") from error
    except ConfigError as error:
        raise ConfigError(f"{shown}, {error}") from error
    if values is None:
        raise ConfigError(
            f"{shown} is empty, expected tables such as data: and index:. "
            "`genrec config quickstart` prints a whole recipe."
        )
    if not isinstance(values, dict):
        raise ConfigError(
            f"{shown} holds {type(values).__name__} {str(values)[:40]!r}, expected tables such as "
            "data: and index:. `genrec config quickstart` prints a whole recipe."
        )
    return values


def read_scalar(text: str) -> Any:  # noqa: ANN401 - a YAML value can be anything
    """Read one value of a ``--set``: a list in [], a table in {}, quoted text, or a scalar.

    Anything else is one scalar as it stands, so that ``::`` or ``query: `` need no quotes.

    Raises:
        ConfigError: When brackets or quotes do not close.
    """
    stripped = text.strip()
    if stripped[:1] in ("[", "{", "'", '"'):
        try:
            return yaml.load(stripped, Loader=RecipeLoader)  # noqa: S506
        except yaml.YAMLError as error:
            raise ConfigError(f"the value is not YAML: {_explain(error, stripped)}") from error
    loader = RecipeLoader("")
    tag = loader.resolve(ScalarNode, stripped, (True, False))  # type: ignore[no-untyped-call]
    if tag == "tag:yaml.org,2002:str":
        return text
    return loader.construct_object(ScalarNode(tag, stripped))


def _explain(error: yaml.YAMLError, text: str) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return str(error).replace("\n", " ")
    mark = error.problem_mark
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    hint = "; YAML indents with spaces, not tabs" if "\t" in line else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}{hint}."
