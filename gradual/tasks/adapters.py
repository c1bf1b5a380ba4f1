"""LoRA adapters through ``peft``: small matrices that are trained beside the frozen weights of a pretrained model.

A stage goes on with the adapter of the stage before, or merges it into the weights under it and begins a new one. The
adapters that were merged are kept: the model is always the pretrained one with these merged in order, so that
checkpoints need none of its weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from gradual.checks import check_fields, found, integer, number
from gradual.config_dataclasses import from_mapping
from gradual.errors import InputError

State = dict[str, Tensor]
"""The matrices of an adapter, by their names in ``peft``."""

_TASK_TYPES = {
    "AutoModelForSequenceClassification": "SEQ_CLS",
    "AutoModelForTokenClassification": "TOKEN_CLS",
    "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM",
    "AutoModelForCausalLM": "CAUSAL_LM",
}
_CLASSIFIERS = ("SEQ_CLS", "TOKEN_CLS")
# never in 4 bits: layers that classifiers train, and output layers
_FULL_PRECISION = ("classifier", "score", "pre_classifier", "classification_head", "head", "pooler", "lm_head")


@dataclass(frozen=True)
class LoRA:
    """Settings of a LoRA adapter (Hu et al., 2022).

    Attributes:
        r: Rank of the matrices.
        alpha: The product of the matrices is multiplied by ``alpha / r``.
        dropout: Probability with which inputs of the adapter are dropped.
        target_modules: The layers beside which it is trained: ``all-linear``, or names or a regular expression as
            ``peft`` takes them, e.g. ``[q_proj, v_proj]``. The head of a classifier is trained itself. A layer that
            shares its weights with another one, such as an output layer tied to the embeddings, is refused.
        use_dora: Train the magnitude of the weights separately (DoRA, Liu et al., 2024).
        load_in_4bit: Keep the pretrained weights in 4 bits (QLoRA, Dettmers et al., 2023), which takes ``bitsandbytes``
            and a GPU.
    """

    r: int = 16
    alpha: float = 32
    dropout: float = 0.05
    target_modules: str | list[str] = "all-linear"
    use_dora: bool = False
    load_in_4bit: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "lora.{}", r=integer(1), alpha=number(above=0), dropout=number(0, below=1))

    @classmethod
    def of(cls, given: LoRA | Mapping[str, Any] | None) -> LoRA | None:
        """The settings that a mapping describes, as checkpoints and configurations have it; None for no adapter.

        Raises:
            InputError: They are wrong, or a package that they need or the GPU is missing.
        """
        if isinstance(given, Mapping):
            given = from_mapping(cls, given, "lora")
        if given is None:
            return None
        if not isinstance(given, cls):
            raise InputError(f"lora is {found(given)}: it must be a mapping of settings, such as {{r: 16}}.")
        if find_spec("peft") is None:
            raise InputError("lora needs the package peft: pip install 'gradual[lora]'.")
        if given.load_in_4bit and not torch.cuda.is_available():
            raise InputError("lora.load_in_4bit needs a CUDA GPU, and there is none: set it to false.")
        missing = [name for name in ("bitsandbytes", "accelerate") if given.load_in_4bit and find_spec(name) is None]
        if missing:
            raise InputError(f"lora.load_in_4bit needs the package {missing[0]}: pip install {missing[0]}.")
        return given

    def to_plain(self) -> dict[str, Any]:
        """The settings as plain data."""
        return asdict(self)


class Adapter:
    """The adapter of a task's model.

    Args:
        lora: Its settings.
        load: Loads the pretrained model, with further arguments for ``from_pretrained``; returns it and the names of
            the weights that it lacks, which are random.
        auto_class: The class of ``transformers`` that loads it, such as ``AutoModelForCausalLM``.

    Attributes:
        earlier: The adapters that earlier stages have trained and that were merged, in order.
    """

    def __init__(self, lora: LoRA, load: Callable[..., tuple[Any, Collection[str]]], auto_class: str):
        self.lora, self._load, self._task_type = lora, load, _TASK_TYPES.get(auto_class)
        self.earlier: list[State] = []
        self._peft: Any = None

    def load(self) -> Any:
        """Load the pretrained model and put a new adapter beside its layers.

        Returns:
            The model, of the class that it has in ``transformers``.

        Raises:
            InputError: It has no such layers, or one of them shares its weights with another layer.
        """
        self._peft = self._beside(*self._load(**self._in_4bit()))
        return self._peft.get_base_model()

    def frozen(self) -> list[str]:
        """The names in the model of the pretrained weights, which are not trained."""
        parameters = self._peft.get_base_model().named_parameters(remove_duplicate=False)
        return [name for name, parameter in parameters if not parameter.requires_grad]

    # What becomes of it in the next stage

    def check_merge(self) -> None:
        """Check that the adapter can be merged.

        Raises:
            InputError: It cannot, because the weights have 4 bits.
        """
        if self.lora.load_in_4bit:
            raise InputError(
                "adapter: merge would round the adapter to the 4 bits of the weights (lora.load_in_4bit): use adapter: "
                "continue."
            )

    def merge(self, seed: int) -> None:
        """Merge the adapter into the weights under it, and begin a new one; all parameters change in place.

        The new adapter changes nothing before it is trained. The head of a classifier stays as it is.

        Args:
            seed: The seed of the new adapter.
        """
        self.check_merge()
        self.earlier = [*self.earlier, _matrices(self._peft)]
        self._take(seed, lambda name: ".modules_to_save." not in name)

    def restore(self, earlier: Sequence[State]) -> None:
        """Make the weights under the adapter those with ``earlier`` merged, in place, before a state is loaded."""
        if len(earlier) == len(self.earlier) and all(map(_same, earlier, self.earlier)):
            return
        self.earlier = [{name: tensor.clone() for name, tensor in state.items()} for state in earlier]
        frozen = {f"base_model.model.{name}" for name in self.frozen()}
        self._take(0, frozen.__contains__)

    def _take(self, seed: int, selects: Callable[[str], bool]) -> None:
        """Copy parameters of the pretrained model, loaded anew, with the earlier adapters merged and a new one.

        So the same adapters give the same weights to the bit, on whatever device and in whatever precision these are.
        """
        with _own_random_numbers(seed):
            fresh = dict(self._beside(*self._with_earlier()).named_parameters())
        with torch.no_grad():
            for name, parameter in self._peft.named_parameters():
                if selects(name) and ".original_module." not in name:
                    parameter.copy_(fresh[name])

    # Ways out

    def merged(self) -> Any:
        """The pretrained model with all adapters merged and the trained head: a plain model of ``transformers``."""
        with _own_random_numbers(0):
            model = self._beside(*self._with_earlier())
        return _merged(model, _state(self._peft))

    def save(self, folder: str | Path) -> None:
        """Write the adapter and the trained head as a folder of ``peft``, for the pretrained model.

        Adapters that were merged are written with it, as one adapter whose rank is the sum of theirs.

        Raises:
            InputError: Adapters with DoRA were merged, which are no single adapter.
        """
        if not self.earlier:
            self._peft.save_pretrained(folder, save_embedding_layers=False)
            return
        if self.lora.use_dora:
            raise InputError(
                "Adapters of several stages with use_dora cannot be written as one: export the merged model instead."
            )
        adapters = [*self.earlier, _matrices(self._peft)]
        state = _state(self._peft)
        for name in adapters[0]:
            side = 0 if name.rpartition("lora_")[2].removeprefix("embedding_")[0] == "A" else 1
            state[name] = torch.cat([adapter[name] for adapter in adapters], dim=side)
        with _own_random_numbers(0):
            together = self._beside(*self._load(), count=len(adapters))
        _set_state(together, state)
        together.save_pretrained(folder, save_embedding_layers=False)

    def _with_earlier(self) -> tuple[Any, Collection[str]]:
        model, lacking = self._load()
        for state in self.earlier:
            model = _merged(self._beside(model, lacking), state)
        return model, lacking

    def _beside(self, model: Any, lacking: Collection[str], count: int = 1) -> Any:
        """Put an adapter, with the rank of ``count`` of them, beside the layers of a model, which is changed."""
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            task_type=self._task_type,
            r=self.lora.r * count,
            lora_alpha=self.lora.alpha * count,
            lora_dropout=self.lora.dropout,
            target_modules=self.lora.target_modules,
            use_dora=self.lora.use_dora,
            modules_to_save=self._trained_modules(model, lacking) or None,
        )
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="fan_in_fan_out is set")  # peft sets it right for Conv1D
                warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings")  # refused below
                beside = get_peft_model(model, config)
        except ValueError as error:
            raise InputError(
                f"lora.target_modules is {found(self.lora.target_modules)}, which does not suit "
                f"{type(model).__name__}: {' '.join(str(error).split())}"
            ) from error
        self._refuse_tied(beside)
        return beside

    def _refuse_tied(self, model: Any) -> None:
        """Refuse layers that share their weights: merging the adapter of one would change the other as well."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        owners: dict[int, list[str]] = {}
        for name, parameter in model.get_base_model().named_parameters(remove_duplicate=False):
            owners.setdefault(id(parameter), []).append(name.removesuffix(".weight").removesuffix(".base_layer"))
        for name, layer in model.get_base_model().named_modules():
            weight = getattr(layer, "weight", None) if isinstance(layer, BaseTunerLayer) else None
            others = [other for other in owners.get(id(weight), []) if other != name]
            if others:
                raise InputError(
                    f"lora.target_modules is {found(self.lora.target_modules)}, but {name} shares its weights with "
                    f"{others[0]}, which would change with it when the adapter is merged: leave {name} out."
                )

    def _trained_modules(self, model: Any, lacking: Collection[str]) -> list[str]:
        """The modules that are trained themselves: the head of a classifier, and those that are not pretrained."""
        own = {name: part for name, part in model.named_children() if name != model.base_model_prefix}
        has_head = self._task_type in _CLASSIFIERS
        head = [name for name, part in own.items() if has_head and any(True for _ in part.parameters())]
        others = {name.rpartition(".")[0] for name in lacking}
        return head + sorted(name for name in others if name and name.partition(".")[0] not in head)

    def _in_4bit(self) -> dict[str, Any]:
        """Arguments of ``from_pretrained`` for weights in 4 bits."""
        if not self.lora.load_in_4bit:
            return {}
        from transformers import BitsAndBytesConfig

        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16,
            llm_int8_skip_modules=list(_FULL_PRECISION),
        )
        return {"quantization_config": config, "device_map": {"": torch.cuda.current_device()}}


@contextmanager
def _own_random_numbers(seed: int) -> Iterator[None]:
    """While it is open, random numbers come from ``seed``; the global generators stay as they were."""
    with isolate_rng(include_cuda=torch.cuda.is_initialized()):
        torch.manual_seed(seed)
        yield


def _state(model: Any) -> State:
    """The adapter and the modules that are trained themselves, by their names in ``peft``, on the CPU."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}


def _matrices(model: Any) -> State:
    """The adapter alone."""
    return {name: tensor for name, tensor in _state(model).items() if ".lora_" in name}


def _set_state(model: Any, state: State) -> None:
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, {**_state(model), **state})  # it takes nothing less than all


def _merged(model: Any, state: State) -> Any:
    """The plain model with the adapter ``state`` in its weights; ``model`` is changed."""
    _set_state(model, state)
    return model.merge_and_unload()


def _same(state: State, other: State) -> bool:
    return state.keys() == other.keys() and all(torch.equal(state[name], other[name]) for name in state)
