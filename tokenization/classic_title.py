"""Titles as IDs: each of the first words is a code."""

import re
import unicodedata
from itertools import islice, zip_longest

import numpy as np

from genrec.embeddings.encoder_state import TOKEN_PATTERN
from genrec.errors import DataError
from genrec.tokenization.indexer import ItemTables, Need, Proposal
from genrec.tokenization.ragged import OVER, pad


class TitleIndexer:
    """The first words of an item's title are its codes (TID).

    Hua et al., "How to Index Item IDs for Recommendation Foundation Models", SIGIR-AP 2023, title
    indexing, where titles are text; here every level has a vocabulary of its own, the words that
    some title has in that place, in sorted order. Words are runs of word characters in lower case,
    each Chinese or Japanese character by itself, as for TF-IDF. A title with fewer words ends in
    END codes. Items with the same first words get the same codes. Rows and seed play no part, and
    an item that is not in the tables gets no codes.
    """

    name = "title"
    needs: frozenset[Need] = frozenset()

    def __init__(self, words: int = 4) -> None:
        """Set how much of a title is read.

        Args:
            words: Most words of a title that are codes.
        """
        self.words = words

    def propose(self, tables: ItemTables, seed: int) -> Proposal:
        """Give items with the same first words the same codes; see ``Indexer.propose``.

        Raises:
            DataError: When no title holds a word.
        """
        tables.require()
        words = [first_words(title, self.words) for title in tables.titles]
        if not any(words):
            raise DataError(
                f"none of the {len(words)} titles holds a word, e.g. {tables.titles[0]!r}; "
                "data.item_columns.title names the column with the titles."
            )
        columns = []
        for column in zip_longest(*words, fillvalue=""):
            code = {word: number for number, word in enumerate(sorted({*column} - {""}))}
            columns.append([code.get(word, OVER) for word in column])
        codes, sizes = pad(np.array(columns, dtype=np.int64).T)
        facts = {"title_words": self.words, "titles_without_words": words.count(())}
        return Proposal(codes, sizes, None, facts)


def first_words(title: str, count: int) -> tuple[str, ...]:
    """Return at most so many words of a title, in lower case.

    Example:
        >>> first_words("OPI Nail Lacquer, Simmer", 3)
        ('opi', 'nail', 'lacquer')
    """
    # Composed first: an accent that stands as a character of its own would end the word.
    found = re.finditer(TOKEN_PATTERN, unicodedata.normalize("NFKC", title))
    return tuple(match.group().lower() for match in islice(found, count))
