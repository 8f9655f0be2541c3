"""The interactions and the catalogue: what people did, and with which items."""
