"""The trie of a model's catalogue, read from its folder where it is there."""

from pathlib import Path

from genrec.decoding.trie import FILE_NAME, PrefixTrie
from genrec.errors import ArtifactError
from genrec.model.generative import GenerativeModel


def model_trie(model: GenerativeModel, folder: Path) -> PrefixTrie:
    """Return the trie of the items a model names.

    The trie of the items it was trained with lies in its folder and is read as it is used, so
    processes that serve the same folder share its memory. That of a later generation is built.

    Args:
        model: As loaded, or with a later generation of its index.
        folder: The model's folder, checked against its manifest.

    Raises:
        ArtifactError: When the file is damaged or of another catalogue.
    """
    if "generation" in model.facts or not (folder / FILE_NAME).exists():
        return PrefixTrie.from_index(model.index, model.item_counts)
    trie = PrefixTrie.load(folder)
    if trie.items != len(model.index) or len(trie.levels) != model.index.levels:
        raise ArtifactError(
            f"{folder / FILE_NAME} holds {trie.items} items of {len(trie.levels)} codes, the index "
            f"beside it {len(model.index)} of {model.index.levels}; train the model again."
        )
    return trie
