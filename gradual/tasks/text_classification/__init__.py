"""Classification and regression of texts, or of pairs of texts, with any encoder of ``transformers``."""
