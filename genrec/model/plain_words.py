"""Texts of items as plain words, so that no title can speak the language of the codes."""

import re
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

_CODE = r"<[a-z]_[0-9]+>"


@dataclass(frozen=True)
class PlainWords:
    """Takes out of a text whatever a tokenizer would read as a code or a special token.

    Attributes:
        unwanted: What is replaced by a blank.
    """

    unwanted: re.Pattern[str]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> "PlainWords":
        """Return what cleans texts for a tokenizer."""
        special = sorted(tokenizer.all_special_tokens, key=len, reverse=True)
        return cls(re.compile("|".join([_CODE, *map(re.escape, special)])))

    def __call__(self, text: str) -> str:
        """Return the text as plain words."""
        return self.unwanted.sub(" ", text)
