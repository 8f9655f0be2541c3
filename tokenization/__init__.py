"""The index stage: vectors become semantic IDs."""
