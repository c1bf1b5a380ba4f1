"""Tagging of words, such as named entities and parts of speech, with any encoder of ``transformers``."""
