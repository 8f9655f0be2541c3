"""The train stage: the language model learns the IDs."""
