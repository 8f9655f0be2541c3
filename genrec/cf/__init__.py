"""Collaborative filtering: the baselines every table carries, and the vectors they learn."""
