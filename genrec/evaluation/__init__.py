"""Predictions and how good they are; knows nothing of models."""
