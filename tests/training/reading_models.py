"""Tiny random language models that know a few words, one of them with eyes."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
)

SPECIAL = ["<end>", "<start>", "<see>", "<seen>", "<image>", "<video>", "<unknown>"]
WORDS = [*SPECIAL, "thing", "number", "Title", ":", "Item", "The", "description", "of", "the",
         "item", "red", "blue", "genres", "brand", *map(str, range(30))]  # fmt: skip


def tokenizer(folder):
    backend = Tokenizer(
        models.WordLevel({word: place for place, word in enumerate(WORDS)}, "<unknown>")
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unknown>", eos_token="<end>", pad_token="<end>"
    ).save_pretrained(folder)


def save(model, folder):
    """Words as small as random ones start could hardly be told apart, whatever is learned."""
    model.get_input_embeddings().weight.data.mul_(20)
    model.save_pretrained(folder)
    tokenizer(folder)


def causal(folder):
    """A decoder of width 16."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True, eos_token_id=0,
        bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    save(LlamaForCausalLM(config), folder)
    return folder


def seeing(folder):
    """A Qwen2-VL of width 16 that sees patches of 4 x 4 pixels, four to a token."""
    torch.manual_seed(0)
    text = {
        "vocab_size": len(WORDS), "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "bos_token_id": None, "eos_token_id": 0, "max_position_embeddings": 256,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
    }  # fmt: skip
    eyes = {
        "depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 2,
        "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2,
    }  # fmt: skip
    config = Qwen2VLConfig(
        text_config=text, vision_config=eyes, image_token_id=4, video_token_id=5,
        vision_start_token_id=2, vision_end_token_id=3, tie_word_embeddings=True,
    )  # fmt: skip
    save(Qwen2VLForConditionalGeneration(config), folder)
    Qwen2VLImageProcessor(
        patch_size=4, merge_size=2, temporal_patch_size=2,
        size={"shortest_edge": 64, "longest_edge": 1024},
    ).save_pretrained(folder)  # fmt: skip
    return folder
