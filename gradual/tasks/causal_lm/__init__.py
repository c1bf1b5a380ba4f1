"""Language modeling: texts, completions of prompts and conversations, for any causal language model."""

from gradual.tasks.causal_lm.data import CausalLMData
from gradual.tasks.causal_lm.task import CausalLM, TokenSpec

__all__ = ["CausalLM", "CausalLMData", "TokenSpec"]
