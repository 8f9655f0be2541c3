"""Stage items: from items with texts and pictures to one vector each, by a language model."""

import json
import logging
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from genrec import artifacts
from genrec.cf.training_checkpoint import Checkpoint
from genrec.config import Recipe
from genrec.config_molar import ItemModelConfig
from genrec.data.dataset import Dataset
from genrec.embeddings.kept_pictures import KeptPictures
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ArtifactError, ConfigError, DataError
from genrec.model.item_language_model import load_item_language_model
from genrec.model.item_reader import ItemReader
from genrec.model.language_model import context_length
from genrec.model.picture_tokens import (
    ImageTable,
    NoPictures,
    PictureTokens,
    SeenPictures,
    SoftPictures,
)
from genrec.model.soft_tokens import SoftTable, SoftTokens
from genrec.runtime import Runtime
from genrec.stages import stage_of
from genrec.training import memory
from genrec.training.adapters import add_adapters
from genrec.training.item_tasks import ItemExample, ItemWords, examples_of, item_pieces
from genrec.training.item_training import ItemSchedule, tune_items

logger = logging.getLogger(__name__)

# Names of the parts of a model that look at pictures; they are left as they are.
EYES = r".*(visual|vision_tower|vision_model|multi_modal_projector).*"


def run(run_folder: Path, recipe: Recipe, runtime: Runtime) -> Path:
    """Tune the item-side model and write ``item_model``: a vector of each item.

    A causal language model reads the vectors of ``image`` as soft tokens, a vision-language one
    the pictures that stage kept; without either, the texts alone. A stopped training goes on from
    ``item_model.checkpoint``.

    Returns:
        The folder written: ``vectors``, the adapter, ``heads.safetensors`` (the mark, and the
        projection of image vectors) and ``training.json``.

    Raises:
        ArtifactError: When an input is missing or damaged, or pictures were not kept.
        ConfigError: When the model that is named cannot be tuned, or its loss is not finite.
        DataError: When nothing is known of any item, or no task has an example.
        DependencyError: When the model cannot be reached.
    """
    section = recipe.item_model
    inputs = {"dataset": run_folder / "dataset"}
    if recipe.image.named:
        inputs["image"] = run_folder / "image"
        artifacts.verify(inputs["image"], "image")
    dataset = Dataset.load(inputs["dataset"])
    texts = ItemWords.of(dataset.catalog, section.description)
    runtime.start()
    reader, soft, adapted = build(section, inputs.get("image"), runtime)
    examples = _examples(section, texts, reader.pictures, dataset, runtime.seed)
    config = section.model_dump(mode="json")
    digests = {name: artifacts.read_manifest(path).digest for name, path in inputs.items()}
    resumable = run_folder / "item_model.checkpoint"
    log: list[dict[str, Any]] = []
    if examples:
        schedule = ItemSchedule(
            epochs=section.epochs,
            batch_size=section.batch_size,
            learning_rate=section.learning_rate,
            warmup=section.warmup,
            seed=runtime.seed,
        )
        checkpoint = Checkpoint(resumable, {"config": config, "seed": runtime.seed, **digests})
        with memory.explained(f"it takes {_memory(reader, section)}", stage_of("items").lower):
            log = tune_items(reader, examples, schedule, checkpoint=checkpoint, quiet=runtime.quiet)
    table = read_items(reader, texts, section.batch_size)
    folder = run_folder / "item_model"
    with artifacts.writing(
        folder, "item_model", seed=runtime.seed, config=config, inputs=inputs, facts=table.origin
    ) as partial:
        table.save(partial)
        soft.detach_from(reader.model)
        adapted.save_pretrained(str(partial / "adapter"), save_embedding_layers=False)
        heads = {
            name: value.contiguous().cpu()
            for name, value in soft.state_dict().items()
            if "projection" in name
        }
        save_file(heads, partial / "heads.safetensors")
        (partial / "training.json").write_text(json.dumps(log, indent=2) + "\n")
    if resumable.exists():
        shutil.rmtree(resumable)
    return folder


def _memory(reader: ItemReader, section: ItemModelConfig) -> memory.MemoryEstimate:
    """Count the memory of a step: all words of its examples are scored at once."""
    words = reader.model.get_output_embeddings().weight
    tokens = section.batch_size * section.max_tokens
    return memory.estimate(
        reader.model,
        batch_tokens=tokens,
        width=section.max_tokens,
        logits=tokens * len(words),
        checkpointing=False,
        value_bytes=words.element_size(),
    )


def build(
    section: ItemModelConfig, image_folder: Path | None, runtime: Runtime
) -> tuple[ItemReader, SoftTokens, Any]:
    """Load the language model, add adapters, the mark and what stands for pictures.

    Returns:
        The reader, its soft tokens and the model as PEFT wrapped it.

    Raises:
        ArtifactError: When a vision-language model is named and pictures were not kept.
        ConfigError: When the model cannot be tuned.
        DependencyError: When it cannot be reached.
    """
    device = runtime.torch_device()
    model, tokenizer, processor = load_item_language_model(
        section.language_model,
        revision=section.revision,
        dtype=runtime.torch_dtype(),
        quiet=runtime.quiet,
    )
    context = context_length(model)
    if context is not None and section.max_tokens > context:
        raise ConfigError(
            f"item_model.max_tokens is {section.max_tokens}, but {section.language_model} reads "
            f"{context}; lower it."
        )
    words = model.get_input_embeddings().weight
    rows, hidden = words.shape
    size = float(words.detach().float().square().mean().sqrt())
    kept = None if processor is None else EYES
    adapted = add_adapters(model, section.lora, section="item_model", kept=kept)
    # The mark starts as a random word; it is trained like one.
    word = nn.Linear(1, hidden, bias=False)
    nn.init.normal_(word.weight, std=size)
    sources = {"mark": SoftTable(np.ones((1, 1), np.float32), word)}
    pictures: PictureTokens = NoPictures()
    if processor is None and image_folder is not None:
        vectors = _image_vectors(image_folder)
        sources["image"] = ImageTable(vectors, hidden, section.image_tokens, size=size)
        pictures = SoftPictures(vectors, rows + 1, section.image_tokens)
    soft = SoftTokens(rows, sources)
    soft.attach(model)
    model.to(device)
    if processor is not None and image_folder is not None:
        pictures = SeenPictures(model, processor, KeptPictures(image_folder))
    reader = ItemReader(model, tokenizer, pictures, mark=rows, max_tokens=section.max_tokens)
    return reader, soft, adapted


def _image_vectors(folder: Path) -> NDArray[np.float32]:
    if not (folder / "vectors.safetensors").is_file():
        raise ArtifactError(
            f"{folder} holds no vectors: image.method was none, and a causal language model reads "
            f"pictures as vectors. Name a method and run `genrec image {folder.parent}` again, or "
            "give item_model.language_model a vision-language model."
        )
    return EmbeddingTable.load(folder).normalised()


# Why a task has no example.
_WITHOUT = {
    "image_text": ", for no item has a picture and a description",
    "attributes": ", for no description says more than title and attributes",
}


def _examples(
    section: ItemModelConfig,
    texts: ItemWords,
    pictures: PictureTokens,
    dataset: Dataset,
    seed: int,
) -> list[ItemExample]:
    """Make the examples of all tasks; say how many, and which task has none."""
    found = [
        example
        for task in section.tasks
        for example in examples_of(
            task,
            texts,
            pictures,
            dataset.sequences(),
            most=section.examples,
            max_history=section.max_history,
            seed=seed,
        )
    ]
    counts = Counter(example.task for example in found)
    logger.info(
        "examples: %s", ", ".join(f"{task} {counts[task]}" for task in section.tasks) or "none"
    )
    for task in section.tasks:
        if not counts[task]:
            logger.warning(
                "the task %s has no example%s; it is left out.",
                task,
                _WITHOUT.get(task, ""),
            )
    if section.tasks and not found:
        raise DataError(
            "no task has an example: items have neither pictures nor descriptions, and no user "
            "has two training events. Set item_model.tasks: [] to read items by the model as it is."
        )
    return found


def read_items(reader: ItemReader, texts: ItemWords, batch_size: int) -> EmbeddingTable:
    """Return the vector of each item, float32[n, h], zero where nothing is known of it.

    Raises:
        DataError: When nothing is known of any item.
    """
    reader.model.eval()
    pieces = {
        row: found
        for row in range(len(texts.titles))
        if (found := item_pieces(row, texts, reader.pictures))
    }
    if not pieces:
        raise DataError("no item has a text or a picture, so there is nothing to read.")
    encoded = {row: reader.encode(given) for row, given in pieces.items()}
    # Like lengths together, so that little is padding.
    order = sorted(encoded, key=lambda row: (len(encoded[row].tokens), row))
    vectors: NDArray[np.float32] | None = None
    for start in range(0, len(order), batch_size):
        some = order[start : start + batch_size]
        states = reader.vectors([encoded[row] for row in some])
        if vectors is None:
            vectors = np.zeros((len(texts.titles), states.shape[1]), dtype=np.float32)
        vectors[some] = states
    assert vectors is not None
    origin = {
        "items": len(vectors),
        "dimensions": vectors.shape[1],
        "with_image": sum(row in reader.pictures for row in range(len(vectors))),
        "unknown": len(vectors) - len(pieces),
        "cut": sum(each.cut for each in encoded.values()),
    }
    if origin["unknown"] or origin["cut"]:
        logger.warning(
            "of %d items %d have neither text nor picture and get a zero vector; %d are longer "
            "than item_model.max_tokens and were cut.",
            origin["items"],
            origin["unknown"],
            origin["cut"],
        )
    return EmbeddingTable(vectors, origin)
