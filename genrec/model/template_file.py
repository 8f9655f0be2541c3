"""Template files: those that come with genrec and those of a user, checked as they are read."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from string import Formatter
from typing import Any

from pydantic import Field, ValidationError

from genrec.config_section import Section
from genrec.errors import ConfigError
from genrec.model.templates import (
    SLOTS,
    TEXT_SLOTS,
    WRITER_SLOTS,
    Frame,
    Slots,
    Template,
    Templates,
)
from genrec.recipe_yaml import read_yaml


class _TemplateBody(Section):
    prompt: str
    answer: str | None = None


class _FrameBody(Section):
    preamble: str = ""
    instruction: str = ""
    response: str = ""


class _SeparatorsBody(Section):
    history: str = ", "
    titles: str = "; "


class _FileBody(Section):
    """A template file as it is written."""

    frame: _FrameBody | None = None
    separators: _SeparatorsBody | None = None
    tasks: dict[str, list[_TemplateBody]] = Field(default_factory=dict)
    texts: dict[str, list[str]] = Field(default_factory=dict)
    writer: dict[str, str] = Field(default_factory=dict)


_BODIES: dict[str, type[Section]] = {
    "frame": _FrameBody,
    "separators": _SeparatorsBody,
    "tasks": _TemplateBody,
}


def load_templates(path: str | Path | None = None) -> Templates:
    """Read the templates that come with genrec, and put those of a file in place of them.

    Args:
        path: A YAML file with the keys ``frame``, ``separators``, ``tasks``, ``texts`` and
            ``writer``, any of them; what it names replaces what comes with genrec, task by task.

    Raises:
        ConfigError: When the file cannot be read, or has unknown fields, tasks or placeholders;
            all problems are named at once.
    """
    if path is None:
        return _shipped()
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"train.templates names {path}, which cannot be read ({error}); give the path of a "
            "YAML file in UTF-8, or null for the templates that come with genrec."
        ) from error
    return _parse(text, str(path), _shipped())


@cache
def _shipped() -> Templates:
    """Return the templates that come with genrec."""
    text = resources.files("genrec.model").joinpath("templates.yaml").read_text("utf-8")
    return _parse(text, "templates.yaml", None)


def _parse(text: str, shown: str, base: Templates | None) -> Templates:
    """Read one file; ``base`` has what it does not name."""
    try:
        body = _FileBody.model_validate(read_yaml(text, shown), strict=True)
    except ValidationError as error:
        raise _refused(shown, [_structure_problem(detail) for detail in error.errors()]) from error
    problems = list(_problems(body))
    if problems:
        raise _refused(shown, problems)
    frame, separators = body.frame or _FrameBody(), body.separators or _SeparatorsBody()
    own = Templates(
        tasks={
            name: tuple(Template(each.prompt, _answer(name, each)) for each in listed)
            for name, listed in body.tasks.items()
        },
        frame=Frame(**frame.model_dump()),
        separators=separators.model_dump(),
        texts={name: tuple(listed) for name, listed in body.texts.items()},
        writer=body.writer,
    )
    if base is None:
        return own
    return Templates(
        tasks={**base.tasks, **own.tasks},
        frame=own.frame if body.frame else base.frame,
        separators=own.separators if body.separators else base.separators,
        texts={**base.texts, **own.texts},
        writer={**base.writer, **own.writer},
    )


def _answer(task: str, body: _TemplateBody) -> str:
    return body.answer if body.answer is not None else f"{{{SLOTS[task].answer[0]}}}"


def _refused(shown: str, problems: list[str]) -> ConfigError:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = "\n".join(f"  {problem}" for problem in problems)
    return ConfigError(f"{shown} has {count}:\n{lines}")


def _structure_problem(detail: Mapping[str, Any]) -> str:
    """Put one complaint of pydantic into a line with the path of the key."""
    path = ""
    for step in detail["loc"]:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else str(step)
    if detail["type"] == "extra_forbidden":
        top, _, inner = path.partition(".")
        body = _BODIES.get(top, _FileBody) if inner else _FileBody
        return f"{path}: unknown field, expected one of {', '.join(body.model_fields)}"
    message = str(detail["msg"])
    return f"{path}: {message[:1].lower()}{message[1:]}"


def _problems(body: _FileBody) -> Iterator[str]:
    """Yield what is wrong with the names and placeholders of a file."""
    for task, listed in body.tasks.items():
        yield from _list_problems("tasks", task, listed, SLOTS)
        for number, each in enumerate(listed if task in SLOTS else []):
            yield from _task_problems(f"tasks.{task}[{number}]", task, each)
    for name, texts in body.texts.items():
        yield from _list_problems("texts", name, texts, TEXT_SLOTS)
        for number, text in enumerate(texts if name in TEXT_SLOTS else []):
            yield from _text_problems(f"texts.{name}[{number}]", text, TEXT_SLOTS[name].prompt)
    for name, text in body.writer.items():
        yield from _list_problems("writer", name, [text], WRITER_SLOTS)
        if name in WRITER_SLOTS:
            yield from _text_problems(f"writer.{name}", text, WRITER_SLOTS[name].prompt)


def _list_problems(
    table: str, name: str, listed: Sequence[object], known: Mapping[str, Slots]
) -> Iterator[str]:
    if name not in known:
        yield f"{table}.{name}: unknown name, expected one of {', '.join(known)}"
    if not listed:
        yield f"{table}.{name}: nothing is listed, expected at least one template"


def _task_problems(where: str, task: str, body: _TemplateBody) -> Iterator[str]:
    slots, answer = SLOTS[task], _answer(task, body)
    yield from _text_problems(f"{where}.prompt", body.prompt, slots.prompt, slots.needed)
    yield from _text_problems(f"{where}.answer", answer, slots.answer)
    if slots.answer == ("item",) and answer != "{item}":
        yield f"{where}.answer: given {answer!r}, expected '{{item}}' and no words around it"


def _text_problems(
    where: str, text: str, allowed: tuple[str, ...], needed: tuple[str, ...] = ()
) -> Iterator[str]:
    """Yield what is wrong with the placeholders of one template."""
    shown = ", ".join(f"{{{name}}}" for name in allowed)
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        yield f"{where}: {error}; braces that are text are doubled, and {shown} may be used"
        return
    names = [name for _, name, _, _ in parts if name is not None]
    for name in names:
        if name not in allowed:
            yield f"{where}: unknown placeholder {{{name}}}, expected one of {shown}"
    if any(form or conversion for _, _, form, conversion in parts):
        yield f"{where}: a placeholder has a ':' or '!' in it, expected a bare name such as {shown}"
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{where}: {{{name}}} stands more than once, expected once"
    missing = [name for name in needed if name not in names]
    if missing or not names:
        wanted = ", ".join(f"{{{name}}}" for name in missing) or f"one of {shown}"
        yield f"{where}: without {wanted} it says nothing about the example"
