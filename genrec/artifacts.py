"""Folders that are whole or not there: manifests, digests, write-then-rename.

Every stage writes one folder. Its files go into ``NAME.partial`` first, the manifest last, and
then the folder is renamed, so a folder that exists is complete. The manifest names what the
folder was made from, so that a reader can tell a stale or foreign input.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from genrec.errors import ArtifactError
from genrec.stages import verb_of

MANIFEST_NAME = "manifest.json"
FORMAT_NUMBER = 1


@dataclass(frozen=True)
class Manifest:
    """What a folder is, what it was made from, and the digest of each of its files.

    Attributes:
        kind: What the folder holds: ``dataset``, ``cf``, ``text``, ``index``, ``model``, ...
        seed: Random seed of the stage that wrote it.
        config: The recipe section of that stage only.
        inputs: Folder name of each input -> its kind and digest.
        files: Path inside the folder -> sha256 of the file.
    """

    kind: str
    seed: int
    config: dict[str, Any]
    inputs: dict[str, dict[str, str]]
    files: dict[str, str]
    format_number: int = FORMAT_NUMBER
    genrec_version: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Return one sha256 over the kind and every file: equal digests, equal content."""
        body = json.dumps([self.kind, self.format_number, sorted(self.files.items())])
        return hashlib.sha256(body.encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(
    folder: Path,
    kind: str,
    *,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Path] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Iterator[Path]:
    """Write a folder so that it appears whole or not at all.

    Args:
        folder: Where the finished folder shall be.
        kind: What it holds.
        seed: Seed of the stage.
        config: The stage's own recipe section, as plain values.
        inputs: Name -> finished folder it was made from; their digests are recorded.
        facts: Anything else worth keeping in the manifest (timings, counts); not in the digest.
            The mapping is read when the folder is finished, so it can be filled meanwhile.

    Yields:
        The partial folder to write files into. Removed if the block raises.
    """
    partial = folder.with_name(folder.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
        finish(partial, folder, kind, seed=seed, config=config, inputs=inputs, facts=facts)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def finish(
    partial: Path,
    folder: Path,
    kind: str,
    *,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Path] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Manifest:
    """Seal a partial folder: write its manifest and rename it into place."""
    from genrec import __version__

    files = {
        path.relative_to(partial).as_posix(): path
        for path in sorted(partial.rglob("*"))
        if path.is_file() and path.name != MANIFEST_NAME
    }
    manifest = Manifest(
        kind=kind,
        seed=seed,
        config=dict(config or {}),
        inputs={
            name: {"kind": read_manifest(path).kind, "digest": read_manifest(path).digest}
            for name, path in (inputs or {}).items()
        },
        files={name: sha256_of(path) for name, path in files.items()},
        genrec_version=__version__,
        facts=dict(facts or {}),
    )
    target = partial / MANIFEST_NAME
    target.write_text(json.dumps(asdict(manifest), indent=2, sort_keys=True, default=str) + "\n")
    for path in files.values():
        # safetensors lets only the owner read what it writes, but a model is there to be served.
        path.chmod(target.stat().st_mode)
        _fsync(path)
    _fsync(target)
    _fsync(partial)
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    _fsync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
    return manifest


def exists(folder: Path) -> bool:
    """Tell whether a finished folder is there."""
    return (folder / MANIFEST_NAME).is_file()


def read_manifest(folder: Path, kind: str | None = None) -> Manifest:
    """Read the manifest of a finished folder.

    Raises:
        ArtifactError: When the folder is missing, half written, unreadable or of another kind.
    """
    path = folder / MANIFEST_NAME
    if not folder.is_dir():
        raise ArtifactError(f"{folder} does not exist; run the stage that writes it first.")
    if not path.is_file():
        raise ArtifactError(
            f"{folder} has no {MANIFEST_NAME}: it is half written or not a genrec folder. "
            "Delete it and run its stage again."
        )
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        manifest = Manifest(**raw)
        _check_types(manifest)
    except (ValueError, TypeError) as error:
        raise ArtifactError(
            f"{path} cannot be read ({error}); delete the folder and run its stage again."
        ) from error
    if manifest.format_number != FORMAT_NUMBER:
        raise ArtifactError(
            f"{folder} has format {manifest.format_number}, this genrec reads {FORMAT_NUMBER}; "
            "run its stage again."
        )
    if kind is not None and manifest.kind != kind:
        raise ArtifactError(f"{folder} holds a {manifest.kind!r}, expected a {kind!r}.")
    return manifest


def _check_types(manifest: Manifest) -> None:
    """Refuse a manifest that is JSON but was not written by genrec; ``TypeError`` names the key."""
    tables = {
        "config": manifest.config,
        "inputs": manifest.inputs,
        "files": manifest.files,
        "facts": manifest.facts,
    }
    wrong = [name for name, value in tables.items() if not isinstance(value, dict)]
    if not wrong:
        wrong += [name for name, value in manifest.files.items() if not isinstance(value, str)]
        wrong += [
            name
            for name, value in manifest.inputs.items()
            if not (isinstance(value, dict) and isinstance(value.get("digest"), str))
        ]
    if wrong:
        raise TypeError(f"{wrong[0]} is not of the kind that a manifest holds")


def verify(folder: Path, kind: str | None = None) -> Manifest:
    """Check a finished folder against its manifest, file by file, and return the manifest.

    Raises:
        ArtifactError: When a file is missing or its content is not what was written.
    """
    manifest = read_manifest(folder, kind)
    for name, digest in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ArtifactError(f"{path} is missing; run the stage that writes {folder} again.")
        if sha256_of(path) != digest:
            raise ArtifactError(
                f"{path} was changed or damaged after it was written "
                "(its sha256 differs from the manifest); run its stage again."
            )
    return manifest


def require_made_from(folder: Path, kind: str, source: Path) -> Manifest:
    """Check a finished folder, and that it was made from the source that a run holds now.

    Args:
        folder: The folder to check.
        kind: What it has to hold: the name of a folder that a stage writes.
        source: The folder it has to be made from; its name is that of the input.

    Raises:
        ArtifactError: When it is missing or damaged, or made from other content.
    """
    manifest = verify(folder, kind)
    expected = read_manifest(source, source.name).digest
    found = manifest.inputs.get(source.name, {}).get("digest")
    if found != expected:
        raise ArtifactError(
            f"{folder} was made from {source.name} {str(found)[:12]}, the run's {source.name} is "
            f"{expected[:12]}; run `genrec {verb_of(kind)}` again, or `genrec run`."
        )
    return manifest
