"""Sources to targets, such as translation and summarization, with any encoder-decoder model of ``transformers``."""
