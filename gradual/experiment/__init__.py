"""Experiments: trees of stages, and what trains them."""
