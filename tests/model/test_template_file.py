"""Template files: what comes with genrec is whole, and what is wrong in one's own is named."""

import pytest

from genrec.errors import ConfigError
from genrec.model.prompts import INSTRUCTION
from genrec.model.template_file import load_templates
from genrec.model.templates import SLOTS, Frame, Template, Templates, fill, placeholders


def own(tmp_path, text):
    path = tmp_path / "my.yaml"
    path.write_text(text, encoding="utf-8")
    return load_templates(path)


def test_every_task_has_several_templates_and_all_of_its_placeholders_are_used():
    templates = load_templates()
    assert set(templates.tasks) == set(SLOTS)
    for task, listed in templates.tasks.items():
        assert 6 <= len(listed) <= 10
        assert len(set(listed)) == len(listed)
        used = {name for each in listed for name in placeholders(each.prompt)}
        assert used == set(SLOTS[task].prompt)
        assert {name for each in listed for name in placeholders(each.answer)} == set(
            SLOTS[task].answer
        )
    first = templates.tasks["next_item"][0]
    assert first.prompt == f"{INSTRUCTION.before}{{history}}{INSTRUCTION.after}"
    assert templates.separators["history"] == INSTRUCTION.between


def test_a_file_replaces_what_it_names_and_nothing_else(tmp_path):
    shipped = load_templates()
    mine = own(
        tmp_path,
        'frame: {preamble: "P ", response: " {R}"}\n'
        'tasks: {search: [{prompt: "find {intention}"}]}\ntexts: {overall: ["{facets}!"]}\n',
    )
    assert mine.tasks["search"] == (Template("find {intention}", "{item}"),)
    assert mine.of("search") == (Template("P find {intention} {{R}}", "{item}"),)
    assert fill(mine.of("search")[0].prompt, {"intention": "tea"}, {}) == ("P find tea {R}",)
    assert mine.tasks["next_item"] == shipped.tasks["next_item"]
    assert mine.frame == Frame("P ", "", " {R}")
    assert mine.separators == shipped.separators
    assert mine.texts == {**shipped.texts, "overall": ("{facets}!",)}
    assert Templates.from_dict(mine.to_dict()) == mine


def test_all_problems_are_named_with_file_task_template_and_what_is_allowed(tmp_path):
    text = """
tasks:
  next_item:
    - prompt: "after {history}"
    - prompt: "after {histroy}"
    - prompt: "nothing at all"
    - prompt: "{history} and {history}"
    - prompt: "{history"
    - {prompt: "{history}", answer: "the {item}"}
  search:
    - prompt: "{history} only"
    - prompt: "{intention:>5}"
  next_itm: [{prompt: "{history}"}]
  preference: []
texts: {overall: ["likes {words}"], mood: ["{facets}"]}
writer: {recent: "say {title}"}
"""
    with pytest.raises(ConfigError) as caught:
        own(tmp_path, text)
    head, *lines = str(caught.value).split("\n")
    assert head.endswith("my.yaml has 12 problems:")
    found = dict(line.strip().split(": ", 1) for line in lines)
    wanted = "unknown placeholder {histroy}, expected one of {history}"
    assert found["tasks.next_item[1].prompt"] == wanted
    assert "without one of {history}" in found["tasks.next_item[2].prompt"]
    assert "more than once" in found["tasks.next_item[3].prompt"]
    assert "{history} may be used" in found["tasks.next_item[4].prompt"]
    assert "expected '{item}'" in found["tasks.next_item[5].answer"]
    assert found["tasks.search[0].prompt"].startswith("without {intention}")
    assert "bare name" in found["tasks.search[1].prompt"]
    assert "expected one of next_item, text_to_item" in found["tasks.next_itm"]
    assert "at least one" in found["tasks.preference"]
    assert found["texts.overall[0]"] == "unknown placeholder {words}, expected one of {facets}"
    assert "texts.mood" in found
    assert "{titles}" in found["writer.recent"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("task: {}", ["task: unknown field", "frame, separators, tasks, texts, writer"]),
        ("tasks: {search: [{promt: x}]}", ["tasks.search[0].promt", "expected one of prompt"]),
        ("frame: {after: x}", ["frame.after: unknown field", "preamble, instruction, response"]),
        ("tasks: {search: 5}", ["tasks.search"]),
        ("tasks: [1]", ["tasks: "]),
        ("tasks: {", ["not YAML"]),
        ("", ["empty"]),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path, text, words):
    with pytest.raises(ConfigError) as caught:
        own(tmp_path, text)
    for word in [*words, "my.yaml"]:
        assert word in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_templates(tmp_path / "gone.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"tasks: {search: [{prompt: '\xe9 {intention}'}]}")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_templates(tmp_path / "latin.yaml")


def test_fill_joins_lists_and_texts():
    separators = {"history": ", ", "titles": "; "}
    assert fill("a {history} b", {"history": [3, 5]}, separators) == ("a ", 3, ", ", 5, " b")
    assert fill("{history}{titles}", {"history": [3], "titles": ["x", "y"]}, separators) == (
        3,
        "x; y",
    )
    assert fill("{items}", {"items": [3, 5]}, separators) == (3, 5)
    assert fill("{{{title}}}", {"title": "{x}"}, separators) == ("{{x}}",)
