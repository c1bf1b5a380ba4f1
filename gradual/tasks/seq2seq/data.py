"""The data of sequence-to-sequence tasks: files of sources and targets."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from gradual.checks import check, integer, number
from gradual.data.domains import Domains
from gradual.data.roles import Role
from gradual.data.task_files import TaskFileDataModule
from gradual.logging import note
from gradual.nn.encoder import resolve_max_length
from gradual.tasks.seq2seq.batch import PairCollator
from gradual.tasks.seq2seq.features import PairFeatures
from gradual.tasks.seq2seq.task import PairSpec
from gradual.tasks.special_tokens import MARKERS, joined_markers

_COMPARED = ("val", "test")  # parts whose targets generated texts may be compared with


class Seq2SeqData(TaskFileDataModule):
    """Sources with targets, such as sentences with their translations or documents with their summaries.

    Args:
        in_domain: Training examples of the target domain.
        source_column: Column of the sources; None for ``source``, ``input``, ``document``, ``article`` or ``dialogue``.
        target_column: Column of the targets; None for ``target``, ``output``, ``summary`` or ``highlights``.
        prefix: Text before each source, such as ``summarize:`` and a space for T5.
        max_length: Maximum number of tokens of a source, prefix included; longer ones lose their end. None for the
            limit of tokenizer and model.
        max_target_length: Maximum number of tokens of a target in the loss; longer ones lose their end. Generated texts
            are compared with whole targets. None for the limit of tokenizer and model.
        max_padding: Maximum share of padding in a batch, which is processed in groups of examples of similar length.
        **settings: Those of every task, see ``TaskFileDataModule``.
    """

    def __init__(
        self,
        in_domain: str | list[str],
        source_column: str | None = None,
        target_column: str | None = None,
        prefix: str = "",
        max_length: int | None = None,
        max_target_length: int | None = None,
        max_padding: float = 0.2,
        **settings: Any,
    ):
        roles = (
            Role("source", source_column, ("source", "input", "document", "article", "dialogue"), is_text=True),
            Role("target", target_column, ("target", "output", "summary", "highlights"), is_text=True, predicted=True),
        )
        super().__init__(in_domain, roles, max_length=max_length, **settings)
        self.prefix: str = check("prefix", prefix, str)
        self.max_target_length = check("max_target_length", max_target_length, int | None, integer(4))
        self.max_padding = number(0, below=1).check("max_padding", max_padding)

    @cached_property
    def longest_target(self) -> int | None:
        """Maximum number of tokens of a target; None for no limit.

        Raises:
            InputError: ``max_target_length`` exceeds the limit of tokenizer and model.
        """
        name, trusted = str(self.tokenizer), self.trust_remote_code
        return resolve_max_length(self.fast_tokenizer, name, self.max_target_length, trusted, "max_target_length")

    def load(self) -> Domains:
        """Map the features from the cache, and log what is cut."""
        import pyarrow.compute as pc

        domains = super().load()
        for part, table in self._read().items():
            for what, column, longest in (
                ("source", "cut", self.longest),
                ("target", "target_cut", self.longest_target),
            ):
                cut = pc.sum(table.data.column(column)).as_py() if column in table.column_names else 0
                if cut:
                    note(
                        "%d of %d examples of %s have a %s of more than %d tokens, which loses its end.",
                        *(cut, len(table), part, what, longest),
                    )
        return domains

    def features(self, part: str) -> PairFeatures:
        """Return what tokenizes sources and targets."""
        return PairFeatures(self.fast_tokenizer, self.prefix, self.longest, self.longest_target, part in _COMPARED)

    def example_settings(self) -> dict[str, Any]:
        """Return the prefix, and the maximum length of a target."""
        own = {"prefix": self.prefix, "max_target_length": self.longest_target}
        return {**super().example_settings(), **own}

    def collator(self) -> PairCollator:
        """Return what pads and groups examples."""
        return PairCollator(self.padding, self.max_padding)

    def spec(self) -> PairSpec:
        """Return what is known of the tokenizer and, test data left aside, of the targets: length, special tokens."""
        import pyarrow.compute as pc

        tables = [table for part, table in self._read().items() if part not in ("test", "predict")]
        longest = max(pc.max(pc.list_value_length(table.data.column("labels"))).as_py() for table in tables)
        markers = joined_markers(table.data.column(MARKERS) for table in tables)
        return PairSpec(
            str(self.tokenizer), len(self.fast_tokenizer), self.padding, longest, markers=tuple(sorted(markers))
        )
