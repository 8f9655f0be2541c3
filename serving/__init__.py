"""The recommend and serve stages: engines, batch export and HTTP."""
