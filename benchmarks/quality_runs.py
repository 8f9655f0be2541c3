"""Run folders of the quality benchmark: what fits is taken from others, the rest is made."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import quality_content
import quality_trend
from flow_runs import call, program
from pydantic import ValidationError
from quality_plan import Job, cf_settings, wanted_cf

from genrec import artifacts
from genrec.config import Recipe
from genrec.errors import ArtifactError, ConfigError
from genrec.recipe_file import dump_recipe, parse_recipe
from genrec.run_folder import keep_recipe
from genrec.stages import Stage

# Paths that name the same content on every machine: how many of their last parts tell.
_PATHS = {"data": ("path", 1), "embed": ("model", 2), "image": ("vectors", 2)}
_OWN_LISTS = {"content_knn": quality_content.recommend, "trend": quality_trend.recommend}
# Kept for their figures only; every row has its own.
_NEVER_SHARED = ("predictions", "report")


@dataclass(frozen=True)
class Place:
    """Where a benchmark finds and puts things on this machine.

    Attributes:
        runs: Folder of the run folders.
        data: Folder of the data sets.
        text_model: Folder of a sentence-transformers model.
        prepared: Set -> run folders that were made before, whose stages are taken where they fit.
        settings: Overrides of the section runtime, ``runtime.key=value`` each.
    """

    runs: Path
    data: Path | None = None
    text_model: Path | None = None
    prepared: Mapping[str, list[Path]] = field(default_factory=dict)
    settings: tuple[str, ...] = ()

    def recipe(self, job: Job, folder: str | None) -> Recipe:
        """Return what is run here: the recipe of a job with the paths of this machine.

        Args:
            job: The measurement.
            folder: Folder of its set under ``data``; None for the embedded store.

        Raises:
            ConfigError: When a path that it needs was not given.
        """
        overrides = list(self.settings)
        if folder is not None:
            overrides.append(f"data.path={json.dumps(str(self._needed('data') / folder))}")
            if job.recipe.image.vectors is not None:
                vectors = self._needed("data") / folder / job.recipe.image.vectors
                overrides.append(f"image.vectors={json.dumps(str(vectors))}")
        if job.recipe.embed.method == "sentence_transformer":
            overrides.append(f"embed.model={json.dumps(str(self._needed('text_model')))}")
        return parse_recipe(dump_recipe(job.recipe), overrides, shown=job.folder_name)

    def _needed(self, name: str) -> Path:
        path: Path | None = getattr(self, name)
        if path is None:
            raise ConfigError(f"give --{name.replace('_', '-')}: the sets that are named need it.")
        return path


def run(job: Job, recipe: Recipe, place: Place) -> Path:
    """Make the run folder of a job, up to its report, and return it.

    Stages that are there and fit are left; those that another run of the set, or a prepared run,
    holds are taken as links to the same files; the others are run by ``genrec VERB``. What was
    stopped half way goes on.

    Raises:
        StepError: When a verb ends with an error.
    """
    folder = place.runs / job.folder_name
    folder.mkdir(parents=True, exist_ok=True)
    keep_recipe(folder, recipe)
    for stage in job.stages:
        if fits(folder / stage.folder, stage, recipe, folder) or _take(stage, recipe, job, place):
            continue
        if stage.verb == "recommend" and job.plan.lists in _OWN_LISTS:
            _OWN_LISTS[job.plan.lists](folder, recipe)
        else:
            call([program(), stage.verb, str(folder), "--quiet"])
    return folder


def lacks_cf(job: Job, recipe: Recipe, place: Place) -> bool:
    """Tell whether a job would have to run the cf stage, the longest of what rows share."""
    wanted = [stage for stage in job.stages if stage.verb == "cf"]
    if not wanted:
        return False
    stage = wanted[0]
    return not any(
        fits(folder / stage.folder, stage, recipe, folder)
        for folder in (place.runs / job.folder_name, *_donors(job, place))
    )


def fits(made: Path, stage: Stage, recipe: Recipe, run_folder: Path) -> bool:
    """Tell whether a finished folder is what a stage would make of the inputs of a run folder.

    Unlike ``genrec run``, keys that came to the recipe later count as their defaults, paths of data
    and of the text model by their last parts, and models of the cf stage may be there that this
    recipe has no use for.
    """
    try:
        manifest = artifacts.read_manifest(made, stage.folder)
        before = _settings(stage, manifest.config, recipe)
    except (ArtifactError, ValidationError):
        return False
    now = _settings(stage, getattr(recipe, stage.section).model_dump(mode="json"), recipe)
    seed_matters = stage.verb != "embed" or recipe.embed.method == "tfidf"
    if before != now or (seed_matters and manifest.seed != recipe.seed):
        return False
    return all(
        _digest(run_folder / name) == recorded["digest"]
        for name, recorded in manifest.inputs.items()
    )


def _settings(stage: Stage, config: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    section = type(getattr(recipe, stage.section)).model_validate(config)
    values: dict[str, Any] = section.model_dump(mode="json")
    if stage.section in _PATHS:
        key, parts = _PATHS[stage.section]
        values[key] = values[key] and Path(values[key]).parts[-parts:]
    if stage.verb == "cf":
        return cf_settings(values, wanted_cf(recipe) & set(values["models"]))
    return values


def _take(stage: Stage, recipe: Recipe, job: Job, place: Place) -> bool:
    """Take a stage from another run, if one holds what is wanted."""
    if stage.folder in _NEVER_SHARED:
        return False
    folder = place.runs / job.folder_name
    for donor in _donors(job, place):
        if fits(donor / stage.folder, stage, recipe, folder):
            _link(donor / stage.folder, folder / stage.folder)
            return True
    return False


def _donors(job: Job, place: Place) -> Iterator[Path]:
    """Yield the run folders of a set, prepared ones first."""
    yield from place.prepared.get(job.set, [])
    for folder in sorted(place.runs.glob(f"{job.set}-*")):
        if folder.name != job.folder_name and folder.is_dir():
            yield folder


def _link(source: Path, target: Path) -> None:
    partial = target.with_name(target.name + ".partial")
    for old in (partial, target):
        if old.exists():
            shutil.rmtree(old)
    shutil.copytree(source, partial, copy_function=_link_or_copy)
    partial.rename(target)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def _digest(folder: Path) -> str | None:
    return artifacts.read_manifest(folder).digest if artifacts.exists(folder) else None
