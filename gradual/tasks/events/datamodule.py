"""The data of event extraction: documents in-domain, and a pool of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gradual.checks import integer
from gradual.data.labels import note_pool_labels
from gradual.data.module import Domains, MixedDomainDataModule
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
        out_of_domain: File of the pool; None for none.
        tokenizer: The tokenizer, as a folder or a name on the Hugging Face Hub. On the command line, it defaults to
            that of the model's encoder.
        out_of_domain_labels: The labels that out-of-domain documents may have: ``all`` labels of the label space, or
            only the pool's ``own``, if its annotation scheme lacks the others (footnote 3 of the paper).
        predict_file: File of documents to predict; None for the test documents.
        max_span_width: Maximum length of a span in tokens.
        pruning: How many candidates for arguments and relations a sentence keeps.
        max_length: Maximum length of a window in word pieces; longer sentences are encoded in several overlapping
            windows. None for the maximum of tokenizer and encoder, but not more than 512.
        max_padding: Maximum share of padding inside attention; there is none anywhere else.
        batch_tokens: Maximum size of a batch in word pieces, on average; batches hold whole documents.
        eval_batch_size: Number of documents in a batch for prediction.
        num_workers: Number of processes that make batches; 0 to make them in the main process.
        trust_remote_code: Run Python code that comes with the tokenizer. On the command line, the model's setting.
    """

    def __init__(
        self,
        in_domain: str,
        val: str,
        test: str | None = None,
        out_of_domain: str | None = None,
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
        trust_remote_code: bool = False,
    ):
        super().__init__(eval_batch_size=eval_batch_size, batch_tokens=batch_tokens, num_workers=num_workers)
        self.files = {"in_domain": in_domain, "out_of_domain": out_of_domain, "val": val, "test": test}
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
        pool = documents.get("out_of_domain", [])
        self.labels = LabelSpace.of(*documents.values())
        self._note_pool_labels(documents)
        self.allowed = self._allowed(LabelSpace.of(pool)) if self.out_of_domain_labels == "own" and pool else {}
        tokenizer = load_tokenizer(self.tokenizer, words=True, trust_remote_code=self.trust_remote_code)
        longest = resolve_max_length(tokenizer, self.tokenizer, self.max_length, self.trust_remote_code)
        if self.max_length is None:
            longest = min(longest or _LONGEST, _LONGEST)
        assert longest is not None
        padding = padding_piece(tokenizer, self.tokenizer)
        relations = bool(self.labels.relations)
        self.collate_fn = SentenceCollator(padding, self.max_span_width, self.pruning, relations, self.max_padding)

        def features(part: Sequence[Document] | None, schema: int = 0) -> DocumentFeatures | None:
            return None if not part else DocumentFeatures(part, tokenizer, self.labels, longest, schema)

        to_predict = None if self.predict_file is None else read_documents(self.predict_file, self.labels)
        in_domain = features(documents["in_domain"])
        assert in_domain is not None  # an empty file is an error
        datasets = Domains(
            in_domain,
            features(pool, schema=1),
            features(documents["val"]),
            features(documents.get("test")),
            features(to_predict),
        )
        windowed = sum(part.windowed for part in vars(datasets).values() if part is not None)
        if windowed:
            note("%d sentences are longer than %d word pieces and are encoded in several windows.", windowed, longest)
        return datasets

    def content_of(self, part: str) -> str | None:
        """Return a digest of the file of a part."""
        path = self.files[part]
        return None if path is None else digest_of_files([Path(path)])

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
        return {
            headings[name]: statistics(read_documents(path)) for name, path in self.files.items() if path is not None
        }

    @staticmethod
    def _note_pool_labels(documents: Mapping[str, Sequence[Document]]) -> None:
        own = LabelSpace.of(documents.get("out_of_domain", ())).to_dict()
        others = LabelSpace.of(*(part for name, part in documents.items() if name != "out_of_domain")).to_dict()
        for kind, labels in own.items():
            note_pool_labels(kind, labels, others[kind])

    def _allowed(self, own: LabelSpace) -> dict[str, list[list[bool]]]:
        """Return the labels that each schema allows: all of them, and only the pool's own."""
        mine = own.to_dict()
        return {
            kind: [[True] * len(labels), [label in mine[kind] for label in labels]]
            for kind, labels in self.labels.to_dict().items()
        }

    def _read(self, path: str) -> list[Document]:
        documents = read_documents(path)
        note_oddities(path, oddities(documents))
        return documents
