# The same five verbs by hand and in CI. Each line can be typed without make.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: install fix check test demo ci

install:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -c constraints.txt -e ".[dev]"

fix:
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -c "from pathlib import Path; from genrec.recipe_page import write_recipe_page; \
		write_recipe_page(Path('docs/recipe.md'))"

check:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test:
	$(BIN)/python -m pytest

demo:
	$(BIN)/genrec quickstart --fast

ci:
	.ci/run
