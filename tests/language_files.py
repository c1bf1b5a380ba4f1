"""What the tests of language modeling share: tiny random models with tokenizers made on the spot, and their files."""

import json

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXTS = ["one plus two is three", "two plus two is four", "what is one plus one ?", "the answer is two", "you are kind"]
CHAT = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|stop|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
MARKED = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}<|stop|>{% endgeneration %}\n"
    "{% else %}{{ m['content'] }}<|stop|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
THINKING = (  # as Qwen 3 has it
    "{% for m in messages %}<|start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m['content'] }}<|stop|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def tokenizer_of(family, chat=CHAT, **changes):
    """Byte-level pieces; that of ``llama`` begins texts with a token of its own, that of ``gpt2`` does not."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<|begin|>", "<|stop|>", "<|start|>", "<|pad|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([*TEXTS, "assistant", "user", "system"], trainer)
    if family == "llama":
        begin = made.token_to_id("<|begin|>")
        made.post_processor = processors.TemplateProcessing("<|begin|> $A", special_tokens=[("<|begin|>", begin)])
    else:
        made.post_processor = processors.ByteLevel(trim_offsets=True)
    names = {"bos_token": "<|begin|>", "eos_token": "<|stop|>", "pad_token": "<|pad|>"}
    found = PreTrainedTokenizerFast(
        tokenizer_object=made, extra_special_tokens=["<|start|>"], **{**names, "model_max_length": 64, **changes}
    )
    found.chat_template = chat
    return found


def config_of(family, **changes):
    """A configuration of width 32 without dropout."""
    own = {"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 3, "initializer_range": 0.2}
    if family == "llama":
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
        sizes |= {"intermediate_size": 48, "max_position_embeddings": 64}
        return LlamaConfig(**{**own, **sizes, **changes})
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    quiet = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
    return GPT2Config(**{**own, **sizes, **quiet, **changes})


def model_of(family, **changes):
    """A random model in evaluation mode."""
    torch.manual_seed(0)
    return {"llama": LlamaForCausalLM, "gpt2": GPT2LMHeadModel}[family](config_of(family, **changes)).eval()


def write_model(folder, family, **changes):
    """A folder with a tiny random model and its tokenizer."""
    model_of(family, **changes).save_pretrained(folder)
    tokenizer_of(family).save_pretrained(folder)
    return folder


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
