"""What the quality benchmark measures, read from ``quality.yaml``."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from genrec.config import Recipe
from genrec.config_section import Section
from genrec.errors import ConfigError
from genrec.pipeline import reads_of
from genrec.recipe_file import parse_recipe
from genrec.recipe_yaml import RecipeDumper, read_yaml
from genrec.stages import STAGES, Stage

Values = dict[str, Any]
# Sections that change no figure.
_APART = ("name", "seed", "serve", "runtime")
# What makes two rows comparable; only a set or a protocol may say it.
_OF_PROTOCOL = ("data", "evaluate", "recommend.users", "recommend.part", "recommend.k",
                "recommend.exclude_seen")  # fmt: skip
# What lists that the benchmark makes itself are made from.
_OWN_LISTS = {"content_knn": {"dataset", "text"}, "trend": {"dataset"}}
# Tables of the section cf that several models share; the others are named after theirs.
_SHARED_IN_CF = {"graph": {"lightgcn", "bpr"}, "item_knn": {"item_knn", "blend"}}


class SetPlan(Section):
    """A data set.

    ``scale`` is how much longer rows take than their minutes say, ``cf_minutes`` what its cf stage
    takes. A ``stand_in`` may be asked for in every table, to try the command; its results are not
    published. ``last_word`` goes over all that rows say. ``references`` are figures of others.
    """

    title: str
    folder: str | None = None
    cf_minutes: float
    scale: float = 1.0
    stand_in: bool = False
    references: dict[str, dict[str, float]] = Field(default_factory=dict)
    recipe: Values = Field(default_factory=dict)
    last_word: Values = Field(default_factory=dict)


class ProtocolPlan(Section):
    """How rows are measured; ``cold_users`` counts users only of whom nothing was trained on."""

    words: str
    examples: Literal["all", "cold_users"] = "all"
    recipe: Values = Field(default_factory=dict)


class RowPlan(Section):
    """A model: the recipe keys in which it differs, and what makes its lists.

    ``generative`` rows name items code by code, alone or with help; ``dense`` ones score vectors of
    items; ``baseline`` ones are what both shall beat, and ``blend`` ones are several of these
    together, shown beside the goal.
    """

    kind: Literal["baseline", "blend", "generative", "dense"]
    minutes: float = Field(gt=0)
    extends: str | None = None
    lists: Literal["genrec", "content_knn", "trend"] = "genrec"
    recipe: Values = Field(default_factory=dict)
    sets: dict[str, Values] = Field(default_factory=dict)


class TablePlan(Section):
    """Rows that are shown together; with a ``reference`` row, also how far they are from it."""

    title: str
    words: str = ""
    protocol: str = "standard"
    sets: list[str]
    rows: list[str]
    reference: str | None = None


class GoalPlan(Section):
    """How many times the best baseline the best generative row shall have, on how many sets."""

    table: str
    ratio: float
    sets: int


class CostPlan(Section):
    """Two rows that learn the same from item streams and from instructions."""

    name: str
    stream: str
    instruction: str


@dataclass(frozen=True)
class Job:
    """One measurement.

    Attributes:
        set: Name of the data set.
        protocol: Name of the protocol.
        row: Name of the row.
        seed: Seed of the run.
        plan: The row.
        examples: Which examples count.
        recipe: What is run, without paths of this machine.
        minutes: A guess at what it takes beyond the cf stage.
        digest: Changes when the settings change that the figures depend on.
    """

    set: str
    protocol: str
    row: str
    seed: int
    plan: RowPlan
    examples: str
    recipe: Recipe
    minutes: float
    digest: str

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What a result belongs to."""
        return self.set, self.protocol, self.row, self.seed

    @property
    def folder_name(self) -> str:
        """Name of the run folder."""
        middle = [] if self.protocol == "standard" else [self.protocol]
        return "-".join([self.set, *middle, self.row, f"seed{self.seed}"])

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that the row needs, in order."""
        return needed_stages(self.recipe, self.plan.lists)


class Plan(Section):
    """All of ``quality.yaml``."""

    seeds: list[int]
    recipe: Values
    sets: dict[str, SetPlan]
    protocols: dict[str, ProtocolPlan]
    rows: dict[str, RowPlan]
    tables: dict[str, TablePlan]
    goal: GoalPlan
    costs: list[CostPlan]

    def job(self, set_name: str, protocol: str, row: str, seed: int) -> Job:
        """Return the measurement of a row.

        Raises:
            ConfigError: When the recipe it comes to is wrong.
        """
        chosen, plan = self.sets[set_name], self.rows[row]
        values = merged(self.recipe, chosen.recipe, self.protocols[protocol].recipe)
        values = merged(values, *self._layers(row, set_name), chosen.last_word)
        values |= {"name": f"{set_name}-{row}", "seed": seed}
        shown = f"row {row} of {set_name}, {protocol},"
        recipe = parse_recipe(yaml.dump(values, Dumper=RecipeDumper), shown=shown)
        return Job(
            set=set_name,
            protocol=protocol,
            row=row,
            seed=seed,
            plan=plan,
            examples=self.protocols[protocol].examples,
            recipe=recipe,
            minutes=plan.minutes * chosen.scale,
            digest=digest_of(recipe, plan.lists),
        )

    def jobs(
        self,
        tables: Sequence[str] | None = None,
        sets: Sequence[str] | None = None,
        rows: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[Job]:
        """Return the measurements of tables, each once: a seed after the other, cheap rows first.

        Args:
            tables: Names of tables; all when none are given.
            sets: Data sets; those of a table when none are given. Stand-ins go with every table.
            rows: Rows to keep; all when none are given.
            seeds: Seeds; those of the plan when none are given.
        """
        found: dict[tuple[str, str, str, int], Job] = {}
        for name in tables or self.tables:
            table = self.tables[name]
            for set_name in sets or table.sets:
                if set_name not in table.sets and not self.sets[set_name].stand_in:
                    continue
                for row in table.rows:
                    for seed in seeds or self.seeds if not rows or row in rows else ():
                        key = set_name, table.protocol, row, seed
                        found[key] = found.get(key) or self.job(*key)
        order = list(seeds or self.seeds)
        return sorted(found.values(), key=lambda job: (order.index(job.seed), job.minutes))

    def _layers(self, row: str, set_name: str) -> list[Values]:
        """Return the recipe parts of a row, after those of the rows it extends."""
        plan = self.rows[row]
        before = self._layers(plan.extends, set_name) if plan.extends else []
        return [*before, plan.recipe, plan.sets.get(set_name, {})]


def read_plan(path: Path) -> Plan:
    """Read and check a plan.

    Raises:
        ConfigError: When it is no plan, or names what it does not hold.
    """
    try:
        plan = Plan.model_validate(read_yaml(path.read_text(encoding="utf-8"), str(path)))
    except ValidationError as error:
        raise ConfigError(f"{path} is no plan of the quality benchmark: {error}") from error
    problems = _problems(plan)
    if problems:
        raise ConfigError(f"{path}: " + "; ".join(problems) + ".")
    return plan


def _problems(plan: Plan) -> list[str]:
    known = {
        "sets": set(plan.sets),
        "rows": set(plan.rows),
        "protocols": set(plan.protocols),
        "tables": set(plan.tables),
    }
    named: list[tuple[str, str, str]] = [("goal", "tables", plan.goal.table)]
    for name, table in plan.tables.items():
        named += [(f"table {name}", "sets", each) for each in table.sets]
        named += [(f"table {name}", "rows", each) for each in table.rows]
        named += [(f"table {name}", "protocols", table.protocol)]
        named += [(f"table {name}", "rows", table.reference)] if table.reference else []
    for cost in plan.costs:
        named += [(f"cost {cost.name}", "rows", each) for each in (cost.stream, cost.instruction)]
    for name, row in plan.rows.items():
        named += [(f"row {name}", "sets", each) for each in row.sets]
    problems = [
        f"{place} names {value!r}, which is not among the {kind}"
        for place, kind, value in named
        if value not in known[kind]
    ]
    return problems + _row_problems(plan)


def _row_problems(plan: Plan) -> list[str]:
    problems, earlier = [], set[str]()
    for name, row in plan.rows.items():
        if row.extends and row.extends not in earlier:
            problems.append(f"row {name} extends {row.extends!r}, which does not stand before it")
        for values in (row.recipe, *row.sets.values()):
            for key in _OF_PROTOCOL:
                section, _, inner = key.partition(".")
                said = values.get(section, {})
                if section in values and (not inner or inner in said):
                    problems.append(f"row {name} sets {key}, which only sets and protocols may")
        earlier.add(name)
    return problems


def merged(*layers: Mapping[str, Any]) -> Values:
    """Return one mapping of several, the later ones over the earlier ones, tables joined.

    >>> merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": [4]})
    {'a': {'b': 3, 'c': 2}, 'd': [4]}
    """
    whole: Values = {}
    for layer in layers:
        for key, value in layer.items():
            old = whole.get(key)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            whole[key] = merged(old, value) if both else value
    return whole


def needed_stages(recipe: Recipe, lists: str) -> tuple[Stage, ...]:
    """Return the stages that lists and their figures need, in order.

    Lists other than those of ``genrec`` are made here in place of ``genrec recommend``.
    """
    needed = {"report"}
    for stage in reversed(STAGES):
        if stage.folder in needed:
            own = lists in _OWN_LISTS and stage.verb == "recommend"
            needed |= _OWN_LISTS[lists] if own else set(reads_of(stage, recipe))
    return tuple(stage for stage in STAGES if stage.folder in needed)


def digest_of(recipe: Recipe, lists: str) -> str:
    """Return what tells settings apart that figures depend on.

    Defaults are left out, so that a key that is new to the recipe makes nothing stale.
    """
    unused = {stage.section for stage in STAGES} - {
        stage.section for stage in needed_stages(recipe, lists)
    }
    body: Values = {"lists": lists}
    for name in type(recipe).model_fields:
        if name not in _APART and name not in unused:
            section = getattr(recipe, name).model_dump(mode="json", exclude_defaults=True)
            body[name] = cf_settings(section, wanted_cf(recipe)) if name == "cf" else section
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12]


def wanted_cf(recipe: Recipe) -> set[str]:
    """Return the models of ``cf.models`` that any other key of the recipe names."""
    values = recipe.model_dump(mode="json", exclude={"cf": {"models"}})
    return set(recipe.cf.models) & set(_texts(values))


def _texts(value: Any) -> Iterator[str]:  # noqa: ANN401 - any value of a recipe
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def cf_settings(section: Mapping[str, Any], wanted: set[str]) -> Values:
    """Return the keys of the section cf that matter when only some models of it are wanted."""
    kept = {
        key: value
        for key, value in section.items()
        if not isinstance(value, Mapping) or _SHARED_IN_CF.get(key, {key}) & wanted
    }
    return kept | {"models": sorted(wanted)}
