"""Tagging of words, such as named entities and parts of speech, with any pretrained encoder."""
