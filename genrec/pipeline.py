"""Which stages are stale, why, and running them in order.

A stage is fresh when its folder is whole and was made by the same recipe section, the same seed
and the same inputs, content for content. So a change to ``[train]`` leaves the index fresh, and a
stage that is remade with the same result leaves all that follow it fresh.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from genrec import artifacts, processes
from genrec.config import Recipe
from genrec.errors import ArtifactError, ConfigError, is_out_of_memory
from genrec.run_folder import keeping_recipe, locked, record_timing
from genrec.runtime import Runtime, require_processes_for
from genrec.stages import STAGES, Stage, stage_of

_MOST_CHANGES = 4


@dataclass(frozen=True)
class StageState:
    """Whether a stage has to be made, and why.

    Attributes:
        stage: The stage.
        reasons: Why it is stale, in words; empty when it is fresh.
    """

    stage: Stage
    reasons: tuple[str, ...]

    @property
    def fresh(self) -> bool:
        """Whether the folder can be used as it is."""
        return not self.reasons

    def __str__(self) -> str:
        words = "fresh" if self.fresh else "stale, " + "; ".join(self.reasons)
        return f"{self.stage.verb}: {words}"


def runtime_of(recipe: Recipe, *, quiet: bool = False) -> Runtime:
    """Return where and how a recipe wants to run."""
    section = recipe.runtime
    return Runtime(
        seed=recipe.seed,
        device=section.device,
        dtype=section.dtype,
        threads=section.threads,
        engine=section.engine,
        quiet=quiet,
    )


def reads_of(stage: Stage, recipe: Recipe) -> tuple[str, ...]:
    """Return the folders a stage needs under this recipe: ``stage.reads`` less the unused ones."""
    unused: set[str] = set()
    if stage.verb == "index":
        unused |= {"cf", "text", "image"} - set(recipe.index.vectors_read)
    if stage.verb == "train":
        unused |= {"cf", "text", "joint"} - set(recipe.train.folders_read)
    if stage.verb == "items" and not recipe.image.named:
        unused.add("image")
    if stage.verb == "molar":
        unused |= {"text", "image", "item_model"} - set(recipe.molar.vectors_read)
        unused |= set() if recipe.molar.alignment_weight else {"cf"}
    if stage.verb == "recommend":
        unused |= _unused_by_models(set(recipe.recommend.models))
    return tuple(name for name in stage.reads if name not in unused)


def _unused_by_models(models: set[str]) -> set[str]:
    """Return the folders that no model of the table is read from."""
    unused = {
        folder for name, folder in (("genrec", "model"), ("molar", "molar")) if name not in models
    }
    return unused if models - {"genrec", "molar"} else unused | {"cf"}


def stages_of(recipe: Recipe) -> tuple[Stage, ...]:
    """Return the stages of a whole run: all but optional ones that no stage of it reads."""
    kept: list[Stage] = []
    read: set[str] = set()
    for stage in reversed(STAGES):
        if not stage.optional or stage.folder in read:
            kept.append(stage)
            read |= set(reads_of(stage, recipe))
    return tuple(reversed(kept))


def state_of(
    stage: Stage, run_folder: Path, recipe: Recipe, *, check_files: bool = True
) -> StageState:
    """Tell whether a stage's folder is fresh.

    Args:
        stage: The stage to look at.
        run_folder: Folder of the run.
        recipe: What the run shall be made by.
        check_files: Also compare every file with its sha256 in the manifest.
    """
    folder = run_folder / stage.folder
    if not folder.exists():
        left = [folder.with_name(folder.name + end) for end in (".partial", ".checkpoint")]
        half = [f"it was stopped half way ({path.name} is there)" for path in left if path.exists()]
        return StageState(stage, tuple(half) or ("not made yet",))
    look = artifacts.verify if check_files else artifacts.read_manifest
    try:
        manifest = look(folder, stage.folder)
    except ArtifactError as error:
        return StageState(stage, (str(error),))
    reasons = changed_keys(
        manifest.config, getattr(recipe, stage.section).model_dump(mode="json"), stage.section
    )
    if manifest.seed != recipe.seed:
        reasons.append(f"seed was {manifest.seed}, is {recipe.seed}")
    reasons += _changed_inputs(manifest, run_folder)
    reasons += [
        f"it was made without {name}"
        for name in reads_of(stage, recipe)
        if name not in manifest.inputs
    ]
    reasons += _changed_sources(folder, stage, recipe)
    if stage.verb == "train":
        reasons += _changed_templates(manifest, recipe.train.templates)
    return StageState(stage, tuple(reasons))


def states(run_folder: Path, recipe: Recipe, *, check_files: bool = True) -> list[StageState]:
    """Tell for every stage, in order, whether it is fresh; nothing is run.

    A stage behind a stale one is named stale only for reasons of its own: the stale one may be
    remade with the same content.
    """
    return [
        state_of(stage, run_folder, recipe, check_files=check_files) for stage in stages_of(recipe)
    ]


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any], section: str) -> list[str]:
    """Name what differs between two versions of a recipe section, as ``key was OLD, is NEW``."""
    before, after = _flat(old, section), _flat(new, section)
    changes = []
    for key in sorted(before.keys() | after.keys()):
        if key not in before:
            changes.append(f"{key} is new")
        elif key not in after:
            changes.append(f"{key} is gone")
        elif before[key] != after[key]:
            changes.append(f"{key} was {_shown(before[key])}, is {_shown(after[key])}")
    if len(changes) > _MOST_CHANGES:
        changes[_MOST_CHANGES:] = [f"{len(changes) - _MOST_CHANGES} more keys of {section} changed"]
    return changes


def check_inputs(stage: Stage, run_folder: Path, recipe: Recipe) -> None:
    """Refuse to start a stage whose inputs are not there, or do not belong to each other.

    Raises:
        ArtifactError: It names each missing folder and the verb that makes it; or the folder that
            was made from other content than the run holds now, with both digests.
    """
    makers = {each.folder: each.verb for each in STAGES}
    missing = [name for name in reads_of(stage, recipe) if not artifacts.exists(run_folder / name)]
    if missing:
        verbs = ", then ".join(f"`genrec {makers[name]} {run_folder}`" for name in missing)
        raise ArtifactError(
            f"genrec {stage.verb} needs {', '.join(str(run_folder / name) for name in missing)}, "
            f"not there or not finished. Run {verbs} first, or `genrec run {run_folder}` for all."
        )
    for name in reads_of(stage, recipe):
        _require_same_sources(run_folder, name, makers)


def _require_same_sources(run_folder: Path, name: str, makers: Mapping[str, str]) -> None:
    """Refuse a folder that was made from another dataset, index or model than the run holds."""
    for source, recorded in sorted(artifacts.read_manifest(run_folder / name).inputs.items()):
        if not artifacts.exists(run_folder / source):
            continue
        now = artifacts.read_manifest(run_folder / source).digest
        if recorded["digest"] != now:
            raise ArtifactError(
                f"{run_folder / name} was made from {source} {recorded['digest'][:12]}, "
                f"but {run_folder / source} is {now[:12]}. Run `genrec {makers[name]} "
                f"{run_folder}` again, or `genrec run {run_folder}` for all that is stale."
            )


def run_stage(verb: str, run_folder: Path, recipe: Recipe, runtime: Runtime) -> Path:
    """Run one stage, whether it is stale or not, and return the folder it wrote.

    Raises:
        ArtifactError: When an input is missing or another process writes to the run.
        ConfigError: When a launcher started several processes for a stage that works alone.
    """
    require_processes_for(verb)
    stage = stage_of(verb)
    with ExitStack() as held:
        if processes.is_first():
            # For all of them: the others neither write nor show anything.
            held.enter_context(locked(run_folder))
            held.enter_context(keeping_recipe(run_folder, recipe))
        else:
            runtime = replace(runtime, quiet=True)
        check_inputs(stage, run_folder, recipe)
        _run(stage, run_folder, recipe, runtime)
    return run_folder / stage.folder


def run_stale(
    run_folder: Path,
    recipe: Recipe,
    runtime: Runtime,
    *,
    announce: Callable[[str], None],
    until: str | None = None,
) -> dict[str, float]:
    """Run the stages that are stale, in order.

    Args:
        run_folder: Folder of the run; made when it is not there.
        recipe: What to make the run by; written into the folder as ``recipe.yaml``.
        runtime: Where and how to run.
        announce: Called with one line a stage before it is run or skipped.
        until: Verb of the last stage wanted; ``None`` goes to the end.

    Returns:
        Verb -> seconds, for the stages that were run.

    Raises:
        ArtifactError: When another process writes to the run.
        ConfigError: When a launcher started several processes.
    """
    require_processes_for("run")
    last = STAGES.index(stage_of(until)) if until else len(STAGES) - 1
    seconds: dict[str, float] = {}
    with locked(run_folder), keeping_recipe(run_folder, recipe) as finished:
        for stage in stages_of(recipe):
            if STAGES.index(stage) > last:
                break
            # Looked at only now: the stages before it may have been remade with the same content.
            state = state_of(stage, run_folder, recipe)
            announce(str(state))
            if not state.fresh:
                seconds[stage.verb] = _run(stage, run_folder, recipe, runtime)
                finished.append(stage.verb)
    return seconds


def _run(stage: Stage, run_folder: Path, recipe: Recipe, runtime: Runtime) -> float:
    started = time.monotonic()
    # Seeded afresh for each stage, so that a stage gives the same alone and in a whole run.
    runtime.start()
    try:
        resolve_name(stage.entry)(run_folder, recipe, runtime)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ConfigError(
            f"there is not enough memory for `genrec {stage.verb}`. {stage.lower}, or use a "
            "machine with more memory. Finished stages are kept."
        ) from error
    seconds = time.monotonic() - started
    if processes.is_first():
        record_timing(run_folder, stage.verb, seconds)
    return seconds


def _changed_inputs(manifest: artifacts.Manifest, run_folder: Path) -> list[str]:
    reasons = []
    for name, recorded in sorted(manifest.inputs.items()):
        try:
            digest = artifacts.read_manifest(run_folder / name).digest
        except ArtifactError:
            reasons.append(f"its input {name} is not there")
            continue
        if digest != recorded.get("digest"):
            reasons.append(f"its input {name} was remade with other content")
    return reasons


def _changed_sources(folder: Path, stage: Stage, recipe: Recipe) -> list[str]:
    """Compare times as ``make`` does: raw files are too large to hash at each run."""
    made = (folder / artifacts.MANIFEST_NAME).stat().st_mtime
    reasons = []
    sources = {
        "data": (recipe.data.path, recipe.data.items_path),
        "image": (recipe.image.path, recipe.image.vectors),
    }
    for named in sources.get(stage.verb, ()):
        source = Path(named) if named else None
        if source is None or not source.exists():
            continue
        files = (
            [path for path in source.iterdir() if path.is_file()] if source.is_dir() else [source]
        )
        if any(path.stat().st_mtime > made for path in files):
            reasons.append(f"{source} was changed after it was read")
    return reasons


def _changed_templates(manifest: artifacts.Manifest, named: str | None) -> list[str]:
    """Compare by content: a training takes long, and the file may be changed while it runs."""
    if named is None or not Path(named).is_file():
        return []
    if artifacts.sha256_of(Path(named)) == manifest.facts.get("templates"):
        return []
    return [f"{named} was changed after it was read"]


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}.{key}"
        if isinstance(value, Mapping):
            flat.update(_flat(value, path))
        else:
            flat[path] = value
    return flat


def _shown(value: Any) -> str:  # noqa: ANN401 - a value of a recipe
    return "null" if value is None else str(value)
