"""The generations of an index: items come and go, the codes a model was trained on stay.

``RUN/index`` is generation 1, what the model of the run is trained on; it is never changed. Later
ones lie in ``RUN/index.generations/N``, each a whole folder that names the one it was made from.
"""

from dataclasses import dataclass
from pathlib import Path

from genrec import artifacts
from genrec.errors import ArtifactError

FOLDER = "index.generations"


@dataclass(frozen=True)
class Generation:
    """One link of the chain.

    Attributes:
        number: 1 for ``RUN/index``.
        folder: Where it is.
        digest: What identifies its content.
        added: Items that came with it.
        removed: Items that went with it.
    """

    number: int
    folder: Path
    digest: str
    added: int = 0
    removed: int = 0


def lineage(run_folder: Path) -> list[Generation]:
    """Return the generations of a run, from the one its model is trained on to the newest.

    Raises:
        ArtifactError: When the run has no index, or a generation was not made from this index and
            the generation before it, as when ``RUN/index`` was made again.
    """
    root = run_folder / "index"
    chain = [Generation(1, root, artifacts.read_manifest(root, "index").digest)]
    folder = run_folder / FOLDER
    numbers = sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())
    for number in numbers:
        manifest = artifacts.read_manifest(folder / str(number), "index")
        facts = manifest.facts
        made_from = (facts.get("generation"), facts.get("root"), facts.get("parent"))
        if made_from != (len(chain) + 1, chain[0].digest, chain[-1].digest):
            raise ArtifactError(
                f"{folder / str(number)} was made from index {str(made_from[1])[:12]} and "
                f"generation {str(made_from[2])[:12]}, but {root} is {chain[0].digest[:12]} and "
                f"generation {len(chain)} is {chain[-1].digest[:12]}. The index was made again or "
                f"a generation is gone. Move {folder} away; `genrec index add {run_folder} "
                "MOVED/N/catalog.parquet`, with its last N, then adds its items again."
            )
        counts = {name: int(facts.get(name, 0)) for name in ("added", "removed")}
        chain.append(Generation(number, folder / str(number), manifest.digest, **counts))
    return chain


def verified(run_folder: Path) -> list[Generation]:
    """Return the generations of a run after checking what they and their titles are read from.

    The index that the model is trained on, the newest generation and the dataset are read and
    compared with their manifests, and the dataset must be the one the index was made from: rows of
    another one name other items.

    Raises:
        ArtifactError: When one is missing or damaged, or the dataset is another; see ``lineage``.
    """
    chain = lineage(run_folder)
    made_from = artifacts.verify(chain[0].folder, "index").inputs.get("dataset", {}).get("digest")
    if len(chain) > 1:
        artifacts.verify(chain[-1].folder, "index")
    dataset = run_folder / "dataset"
    digest = artifacts.verify(dataset, "dataset").digest
    if made_from != digest:
        raise ArtifactError(
            f"{chain[0].folder} was made from dataset {str(made_from)[:12]}, but {dataset} is "
            f"{digest[:12]}, whose rows are other items. Run `genrec run {run_folder}`, which "
            "makes again what is stale."
        )
    return chain


def latest(run_folder: Path) -> Path:
    """Return the folder of the newest generation; ``RUN/index`` when there is no later one.

    Raises:
        ArtifactError: See ``lineage``.
    """
    return lineage(run_folder)[-1].folder
