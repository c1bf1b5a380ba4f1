"""Language modeling: texts, completions of prompts and conversations, with any causal model of ``transformers``."""
