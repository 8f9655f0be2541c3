"""The language model that speaks item codes: prompts, loading, and the folder it is kept in."""
