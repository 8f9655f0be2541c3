import ast
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name

import pytest

from genrec.config import Recipe
from genrec.stages import STAGES, stage_of

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = SETTINGS["tool"]["setuptools"]["packages"]
FOLDERS = SETTINGS["tool"]["setuptools"]["package-dir"]


def packages_on_disk():
    """Return the import name of every folder with an ``__init__.py`` under the mapped roots."""
    found = set()
    for name, folder in FOLDERS.items():
        root = ROOT / folder
        for file in root.rglob("__init__.py"):
            inner = file.parent.relative_to(root)
            # A link inside genrec/ shows a stage folder a second time; the mapping names it.
            if any((root / part).is_symlink() for part in [*inner.parents, inner]):
                continue
            found.add(".".join([name, *inner.parts]))
    return found


def test_every_package_on_disk_is_in_the_list():
    assert set(PACKAGES) == packages_on_disk()
    assert len(PACKAGES) == len(set(PACKAGES))


def test_links_point_where_the_mapping_says():
    mapped = {name: folder for name, folder in FOLDERS.items() if name != "genrec"}
    assert set(mapped) == {
        f"genrec.{n}" for n in ("tokenization", "training", "serving", "configs")
    }
    for name, folder in mapped.items():
        link = ROOT / "genrec" / name.rpartition(".")[2]
        if not link.exists():
            pytest.skip("this checkout has no links; the mapping alone builds it")
        assert link.resolve() == (ROOT / folder).resolve()
    links = {path.name for path in (ROOT / "genrec").iterdir() if path.is_symlink()}
    assert links == {name.rpartition(".")[2] for name in mapped}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.verb)
def test_every_stage_entry_resolves(stage):
    assert callable(resolve_name(stage.entry))


def test_stages_form_a_line_and_have_their_section():
    made: set[str] = set()
    for stage in STAGES:
        assert set(stage.reads) <= made
        assert stage.section in Recipe.model_fields
        assert stage_of(stage.verb) is stage
        made.add(stage.folder)
    assert len(made) == len(STAGES)
    with pytest.raises(KeyError):
        stage_of("serve")


def test_vllm_is_imported_by_one_module_that_is_looked_up_by_name():
    """So that nothing but its engine pays for it, and all else works without it."""
    importers, imported = set(), set()
    for path in (path for folder in FOLDERS.values() for path in (ROOT / folder).rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            imported |= set(names)
            if any(name.split(".")[0] == "vllm" for name in names):
                importers.add(path.name)
    assert importers == {"vllm_processor.py"}
    assert "genrec.decoding.vllm_processor" not in imported
    assert "genrec.decoding.vllm_scorer" in imported


def test_the_command_is_the_entry_point():
    assert callable(resolve_name(SETTINGS["project"]["scripts"]["genrec"]))


def test_the_version_is_the_one_of_the_project():
    assert import_module("genrec").__version__ == SETTINGS["project"]["version"]


def test_recipes_are_package_data():
    assert SETTINGS["tool"]["setuptools"]["package-data"]["genrec.configs"] == ["*.yaml"]
    assert {path.suffix for path in (ROOT / "configs").iterdir() if path.is_file()} == {
        ".py",
        ".yaml",
    }


@pytest.mark.parametrize("module", ["genrec", "genrec.cli", "genrec.stages"])
def test_importing_loads_nothing_heavy(module):
    code = (
        f"import sys, {module}; heavy = ['torch', 'polars', 'transformers', 'numpy', 'faiss'];"
        "print([name for name in heavy if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_every_layer_of_the_import_contract_exists_and_every_module_has_a_layer():
    contract = SETTINGS["tool"]["importlinter"]["contracts"][0]
    named = {name.strip() for layer in contract["layers"] for name in layer.split("|")}
    on_disk = {f"genrec.{path.stem}" for path in (ROOT / "genrec").glob("[!_]*.py")}
    on_disk |= {name for name in PACKAGES if name.count(".") == 1} - {"genrec.configs"}
    assert named == on_disk
