"""Relevance: how much the examples of a pool are like the in-domain training data, by several scorers."""
