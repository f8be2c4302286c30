"""Metrics, intervals, slices, and the gate that a model must pass before it serves."""
