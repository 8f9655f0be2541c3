"""From a GGUF file to a Hugging Face folder, and a check that a folder's model works."""

from pathlib import Path
from typing import Any

from genrec.errors import ArtifactError


def convert(gguf: Path, folder: Path) -> None:
    """Unpack a GGUF file into a Hugging Face folder: bfloat16 safetensors and the tokenizer.

    Args:
        gguf: The GGUF file.
        folder: Existing folder to write into.
    """
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loading = {"gguf_file": gguf.name, "local_files_only": True}
    # Newer transformers keep GGUF weights packed unless told; older ones always unpack them.
    packed = getattr(transformers, "GgufConfig", None)
    quantization = {} if packed is None else {"quantization_config": packed(dequantize=True)}
    # transformers leaves some of these functions without types.
    models: Any = AutoModelForCausalLM
    loaded = models.from_pretrained(gguf.parent, dtype=torch.float32, **loading, **quantization)
    # A model that came from GGUF refuses to be saved, so its weights move into a fresh one.
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    fresh = models.from_config(config, dtype=torch.float32)
    fresh.load_state_dict(loaded.state_dict())
    fresh.generation_config = loaded.generation_config
    fresh.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, **loading).save_pretrained(folder)


def check(folder: Path, question: str, answer: str) -> None:
    """Load a model folder and let it answer a question, to see that its weights are right.

    Args:
        folder: Hugging Face folder of a causal language model.
        question: Start of a sentence.
        answer: Word that the greedy continuation must contain.

    Raises:
        ArtifactError: When the head is not tied as the config says, or the answer is another.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    head = model.get_output_embeddings().weight.data_ptr()
    tied = head == model.get_input_embeddings().weight.data_ptr()
    if tied != bool(model.config.tie_word_embeddings):
        raise ArtifactError(
            f"the model in {folder} should have tie_word_embeddings "
            f"{model.config.tie_word_embeddings}, but its head says otherwise; update transformers "
            "and try again."
        )
    encoded = tokenizer(question, return_tensors="pt")
    output = model.generate(**encoded, max_new_tokens=8, do_sample=False)
    text = tokenizer.decode(output[0, encoded["input_ids"].shape[1] :])
    if answer not in text:
        raise ArtifactError(
            f"the model in {folder} continues {question!r} with {text!r}, expected {answer!r}: its "
            "weights are wrong. Update transformers and gguf and try again."
        )
