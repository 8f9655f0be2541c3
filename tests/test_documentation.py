"""What the pages say can be typed: links, commands, recipes, and the worked example itself."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest

from genrec.cli import app
from genrec.config import Recipe
from genrec.data.dataset import Dataset
from genrec.data.prepare import run
from genrec.recipe_file import key_paths, load_recipe, parse_recipe
from genrec.runtime import Runtime

ROOT = Path(__file__).parent.parent
# Endings by which a file such as index.json is told from a key such as index.levels.
FILES = (".json", ".checkpoint", ".partial")
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "SECURITY.md"]
# Their commands are run elsewhere (benchmarks/flow.py), or are of the tools of development.
ALL_PAGES = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
if not all(page.is_file() for page in ALL_PAGES):
    pytest.skip("the documentation is not part of this installation", allow_module_level=True)


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def every(language):
    return [
        pytest.param(block, id=f"{page.stem}-{number}")
        for page in PAGES
        for number, block in enumerate(blocks(page, language))
    ]


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.stem)
def test_links_to_other_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.stem)
def test_named_files_of_the_project_exist(page):
    pattern = r"`((?:genrec|training|tokenization|serving|configs|tests)/[\w/.-]+)`"
    for path in re.findall(pattern, page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), path


def test_every_verb_and_every_key_that_is_named_exists():
    verbs = {command.name for command in app.registered_commands}
    verbs |= {command.callback.__name__ for command in app.registered_commands if not command.name}
    verbs |= {group.name for group in app.registered_groups}
    keys, sections = set(key_paths()), "|".join(Recipe.model_fields)
    for page in ALL_PAGES:
        text = page.read_text(encoding="utf-8")
        for verb in re.findall(r"(?:^|`)genrec ([a-z]+)", text, re.M):
            assert verb in verbs, f"{page.name}: genrec {verb}"
        named = re.findall(rf"--set \"?((?:{sections})[\w.]+)=", text)
        named += re.findall(rf"`((?:{sections})\.[\w.]+)(?::[^`]*)?`", text)
        for key in named:
            assert key in keys or Path(key).suffix in FILES, f"{page.name}: {key}"


@pytest.mark.parametrize("block", every("yaml"))
def test_recipes_are_recipes(block):
    parse_recipe(block)


@pytest.mark.parametrize("block", every("python"))
def test_python_can_be_read_and_imports_only_what_is_there(block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("genrec"):
            for alias in node.names:
                resolve_name(f"{node.module}:{alias.name}")


def test_the_worked_example_gives_what_its_page_says(tmp_path, monkeypatch):
    page = ROOT / "docs" / "own-data.md"
    monkeypatch.chdir(tmp_path)
    Path("make_shop.py").write_text(blocks(page, "python")[0], encoding="utf-8")
    Path("shop.yaml").write_text(blocks(page, "yaml")[0], encoding="utf-8")
    subprocess.run([sys.executable, "make_shop.py"], check=True)
    assert Path("shop/interactions.csv").read_text().split("\n")[1] in page.read_text()
    folder = run(Path("runs/shop"), load_recipe("shop.yaml"), Runtime(quiet=True))
    dataset = Dataset.load(folder)
    said = re.search(
        r"(\d+) users, (\d+) items, (\d+) interactions from .*; 2 rows", page.read_text()
    )
    assert said is not None
    counts = (len(dataset.user_ids), len(dataset.catalog), len(dataset.interactions))
    assert counts == tuple(int(number) for number in said.groups())
    assert "Dogwood Cup" in dataset.catalog.titles
