"""Semantic IDs: the code tuple that names each item, and its tokens in a language model."""
