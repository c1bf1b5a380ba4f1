"""The data of event extraction: documents in-domain, and a pool of others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gradual.checks import integer
from gradual.data.domains import Domains
from gradual.data.kept_pool import AmountIn
from gradual.data.labels import note_pool_labels
from gradual.data.module import MixedDomainDataModule, source_row
from gradual.data.part_files import files_of_named_sources
from gradual.data.relevance.settings import Order
from gradual.data.sources import POOL, is_pool, pool_of
from gradual.digest import digest_of_files
from gradual.errors import InputError
from gradual.logging import note, note_oddities
from gradual.nn.encoder import load_tokenizer, padding_piece, resolve_max_length
from gradual.tasks.events.batch import Pruning, SentenceCollator
from gradual.tasks.events.data import oddities, read_documents, statistics
from gradual.tasks.events.documents import Document
from gradual.tasks.events.features import DocumentFeatures
from gradual.tasks.events.labels import EventSpec, LabelSpace

_LONGEST = 512


class EventDataModule(MixedDomainDataModule):
    """Documents with entities, relations and events, in DyGIE's format (one JSON object per line).

    In-domain and out-of-domain documents are in separate files, and may differ in language, genre and label set. The
    label space is the union of all labels. Amounts of out-of-domain data count documents.

    Args:
        in_domain: File of training documents from the target domain.
        val: File of validation documents.
        test: File of test documents; None for none.
        out_of_domain: File of the pool, or a mapping of named sources, each a file or
            ``{files: FILE, weight: NUMBER}``; None for none.
        tokenizer: The tokenizer, as a folder or a name on the Hugging Face Hub. On the command line, it defaults to
            that of the model's encoder.
        out_of_domain_labels: The labels that out-of-domain documents may have: ``all`` labels of the label space, or
            only the pool's ``own``, if its annotation scheme lacks the others (footnote 3 of the paper); each named
            source has its own.
        predict_file: File of documents to predict; None for the test documents.
        max_span_width: Maximum length of a span in tokens.
        pruning: How many candidates for arguments and relations a sentence keeps.
        max_length: Maximum length of a window in word pieces; longer sentences are encoded in several overlapping
            windows. None for the maximum of tokenizer and encoder, but not more than 512.
        max_padding: Maximum share of padding inside attention; there is none anywhere else.
        batch_tokens: Maximum size of a batch in word pieces, on average; batches hold whole documents.
        eval_batch_size: Number of documents in a batch for prediction.
        num_workers: Number of processes that make batches; 0 to make them in the main process.
        amount_in: What the amounts of a schedule count: ``examples``, or ``tokens`` (word pieces).
        order: The order in which the pool is kept: ``uniform``, ``relevance``, or a mapping with the settings of
            ``gradual.data.relevance.settings.Order``.
        trust_remote_code: Run Python code that comes with the tokenizer. On the command line, the model's setting.
    """

    def __init__(
        self,
        in_domain: str,
        val: str,
        test: str | None = None,
        out_of_domain: str | dict[str, Any] | None = None,
        tokenizer: str = "",
        out_of_domain_labels: str = "all",
        predict_file: str | None = None,
        max_span_width: int = 8,
        pruning: Pruning | None = None,
        max_length: int | None = None,
        max_padding: float = 0.1,
        batch_tokens: int = 2000,
        eval_batch_size: int = 8,
        num_workers: int = 0,
        amount_in: AmountIn = "examples",
        order: Order | dict[str, Any] | str = "uniform",
        trust_remote_code: bool = False,
    ):
        super().__init__(
            eval_batch_size=eval_batch_size, batch_tokens=batch_tokens, num_workers=num_workers,
            amount_in=amount_in, order=order,
        )  # fmt: skip
        self.weights: tuple[float, ...] | None = None
        pool = {POOL: out_of_domain}
        if isinstance(out_of_domain, Mapping):
            pool, self.weights = files_of_named_sources(out_of_domain)
        self.files: dict[str, Any] = {"in_domain": in_domain, **pool, "val": val, "test": test}
        self.tokenizer, self.predict_file = tokenizer, predict_file
        self.trust_remote_code = trust_remote_code
        self.out_of_domain_labels = out_of_domain_labels
        self.max_span_width, self.pruning = max_span_width, pruning
        self.max_length, self.max_padding = max_length, max_padding
        if out_of_domain_labels not in ("all", "own"):
            raise InputError(f"out_of_domain_labels is '{out_of_domain_labels}': it must be all or own.")
        for name, value, least in (("max_span_width", max_span_width, 1), ("max_length", max_length, 8)):
            if value is not None:
                integer(least).check(name, value)

    def load(self) -> Domains:
        """Read the files and tokenize the documents."""
        files = {name: path for name, path in self.files.items() if name != "test" or self.reads_test}
        documents = {name: self._read(path) for name, path in files.items() if path is not None}
        pools = {part: documents[part] for part in documents if is_pool(part)}
        self.labels = LabelSpace.of(*documents.values())
        self._note_pool_labels(documents)
        own = [LabelSpace.of(pool) for pool in pools.values()]
        self.allowed = self._allowed(own) if self.out_of_domain_labels == "own" and own else {}
        tokenizer = self.scoring_tokenizer()
        longest = self._longest(tokenizer)
        padding = padding_piece(tokenizer, self.tokenizer)
        relations = bool(self.labels.relations)
        self.collate_fn = SentenceCollator(padding, self.max_span_width, self.pruning, relations, self.max_padding)

        def features(part: Sequence[Document] | None, schema: int = 0) -> DocumentFeatures | None:
            return None if not part else DocumentFeatures(part, tokenizer, self.labels, longest, schema)

        to_predict = None if self.predict_file is None else read_documents(self.predict_file, self.labels)
        in_domain = features(documents["in_domain"])
        assert in_domain is not None  # an empty file is an error
        encoded = {part: features(pool, schema) for schema, (part, pool) in enumerate(pools.items(), start=1)}
        datasets = Domains(
            in_domain,
            pool_of(encoded, self.weights),
            features(documents["val"]),
            features(documents.get("test")),
            features(to_predict),
        )
        parts = [datasets.in_domain, *encoded.values(), datasets.val, datasets.test, datasets.predict]
        windowed = sum(part.windowed for part in parts if isinstance(part, DocumentFeatures))
        if windowed:
            note("%d sentences are longer than %d word pieces and are encoded in several windows.", windowed, longest)
        return datasets

    def content_of(self, part: str) -> str | None:
        """Return a digest of the file of a part."""
        path = self.files[part]
        return None if path is None else digest_of_files([Path(path)])

    def example_settings(self) -> dict[str, Any]:
        """Return the tokenizer, the maximum lengths, the pruning, and which labels the pool may have."""
        tokenizer = self.scoring_tokenizer()
        return {
            "tokenizer": tokenizer,
            "out_of_domain_labels": self.out_of_domain_labels,
            "max_span_width": self.max_span_width,
            "pruning": self.pruning or Pruning(),
            "max_length": self._longest(tokenizer),
        }

    def scoring_tokenizer(self) -> Any:
        """Return the tokenizer."""
        return load_tokenizer(self.tokenizer, words=True, trust_remote_code=self.trust_remote_code)

    def rows(self, part: str) -> Any:
        """Return the documents of a training part as they were read."""
        return [json.loads(document.record) for document in super().rows(part)]

    def spec(self) -> EventSpec:
        """Return the label space, the maximum width of a span, and the labels that each schema allows."""
        return EventSpec(self.labels, self.max_span_width, self.allowed)

    def statistics(self) -> dict[str, dict[str, int]]:
        """Return Table 3 of the paper, with one column per file."""
        headings = {
            "in_domain": "train (in-domain)",
            "out_of_domain": "pool (out-of-domain)",
            "val": "dev",
            "test": "test",
        }
        headings |= {part: source_row(part.partition(".")[2]) for part in self.files if "." in part}
        return {
            headings[name]: statistics(read_documents(path)) for name, path in self.files.items() if path is not None
        }

    @staticmethod
    def _note_pool_labels(documents: Mapping[str, Sequence[Document]]) -> None:
        own = LabelSpace.of(*(part for name, part in documents.items() if is_pool(name))).to_dict()
        others = LabelSpace.of(*(part for name, part in documents.items() if not is_pool(name))).to_dict()
        for kind, labels in own.items():
            note_pool_labels(kind, labels, others[kind])

    def _allowed(self, own: Sequence[LabelSpace]) -> dict[str, list[list[bool]]]:
        """Return the labels that each schema allows: all of them, and only those of each source of the pool."""
        mine = [space.to_dict() for space in own]
        return {
            kind: [[True] * len(labels), *([label in each[kind] for label in labels] for each in mine)]
            for kind, labels in self.labels.to_dict().items()
        }

    def _longest(self, tokenizer: Any) -> int:
        """The maximum length of a window in word pieces."""
        longest = resolve_max_length(tokenizer, self.tokenizer, self.max_length, self.trust_remote_code)
        if self.max_length is None:
            longest = min(longest or _LONGEST, _LONGEST)
        assert longest is not None
        return longest

    def _read(self, path: str) -> list[Document]:
        documents = read_documents(path)
        note_oddities(path, oddities(documents))
        return documents
