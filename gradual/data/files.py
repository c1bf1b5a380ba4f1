"""The data module for your own files: JSON lines, CSV, TSV or Parquet, tokenized if a text column is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from gradual.checks import checked, integer
from gradual.data.arguments import BATCHES, FILES, PATH, POOL_FILES
from gradual.data.cache import ReadOptions, read_tables
from gradual.data.cache_folder import content_of_files, default_cache
from gradual.data.collate import PaddingCollator
from gradual.data.domains import Domains
from gradual.data.features import LENGTH
from gradual.data.file_dataset import FileDataset
from gradual.data.formats import Columns
from gradual.data.kept_pool import AmountIn
from gradual.data.labels import note_pool_labels
from gradual.data.module import MixedDomainDataModule, source_row
from gradual.data.part_files import expand, expand_parts, warn_of_shared_files
from gradual.data.relevance.settings import Order
from gradual.data.sources import POOL, files_of_sources, is_pool, is_training, part_of, pool_of, sources_of
from gradual.errors import InputError
from gradual.nn.encoder import load_tokenizer, resolve_max_length

_PARTS = ("in_domain", "out_of_domain", "val", "test", "predict")
_FILES = dict.fromkeys(_PARTS, FILES) | {POOL: POOL_FILES}


class FileDataModule(MixedDomainDataModule):
    """Examples in files of any size, read through Hugging Face ``datasets`` and memory-mapped, never loaded in full.

    Each part is a file, a pattern (``pool/*.jsonl``) or a list of these, all of one format: ``.jsonl`` (or ``.json``),
    ``.csv``, ``.tsv`` (both with a header, quoted where needed), ``.parquet``, CoNLL (``.txt``, ``.conll``,
    ``.conllu``, ``.iob`` or ``.bio``; see ``gradual.data.conll``), or a folder that ``save_to_disk`` of ``datasets``
    wrote, of one split, whose labels become their names. An example is a dict of its columns' values. Files are
    converted (and tokenized) once, in parallel, and kept in ``cache_dir`` for all processes, found again by their
    content; delete that folder to free the space. Nothing is downloaded.

    A column has one type in all files of all parts (``predict`` takes the types of the others), determined from all of
    its values; a value that does not fit is reported with its file and line. Cells of CSV and TSV are numbers if every
    cell of the column is a number as in JSON (``03`` and ``+1`` are not), and otherwise text; an empty cell is None, or
    empty text in ``text_column``.

    Args:
        in_domain: Training examples of the target domain.
        out_of_domain: The pool: files, or a mapping of named sources, each files or ``{files: FILES, weight: NUMBER}``.
            The sources may differ in format.
        val: Validation examples.
        test: Test examples.
        predict: Examples to predict, labelled or not; None for the test examples.
        text_column: Column to tokenize, or two for pairs; it is replaced by ``input_ids``, ``attention_mask`` and, if
            the tokenizer returns them, ``token_type_ids``. None leaves the columns as they are.
        tokenizer: Folder of an encoder with a fast tokenizer, or its name on the hub; on the command line it defaults
            to the ``pretrained`` or the ``encoder`` of the model, if that is one of gradual's.
        max_length: Maximum number of tokens per example, longer ones are truncated; None for the limit of tokenizer and
            encoder.
        label_column: Column that every example except those of ``predict`` must have. Text in it becomes an index into
            ``label_names``.
        id_column: Column of the examples' ids, text or integers, which are kept as text; None to use their positions.
        length_column: Column with the number of tokens per example, for ``batch_tokens``; not needed for tokenized
            text.
        columns: Further columns to read; None for all. The content of other columns does not matter.
        cache_dir: Folder for the converted files; None for ``gradual`` in the cache of ``datasets``.
        num_proc: Number of processes that convert and tokenize; None for one per core.
        batch_size: Training examples per batch and process; a stage may override it.
        eval_batch_size: Examples per evaluation batch; None for ``batch_size``. Where ``batch_tokens``
            is set, only predictions use it.
        batch_tokens: Instead of a number of examples, the maximum average number of tokens per batch.
        collate_fn: Makes a batch from a list of examples; None for ``PaddingCollator``.
        num_workers: Number of processes that load data; 0 loads in the main process.
        amount_in: What the amounts of a schedule count: ``examples``, or ``tokens``.
        order: The order in which the pool is kept: ``uniform``, ``relevance``, or a mapping with the settings of
            ``gradual.data.relevance.settings.Order``. All but ``column`` need ``text_column``.

    Attributes:
        label_names: Labels that are text, sorted, as found in the training files; available after ``setup``.
    """

    @checked(**_FILES, **BATCHES, tokenizer=PATH, cache_dir=PATH, max_length=integer(1), num_proc=integer(1))
    def __init__(
        self,
        in_domain: str | list[str],
        out_of_domain: str | list[str] | dict[str, Any] | None = None,
        val: str | list[str] | None = None,
        test: str | list[str] | None = None,
        predict: str | list[str] | None = None,
        text_column: str | list[str] | None = None,
        tokenizer: str | None = None,
        max_length: int | None = None,
        label_column: str | None = None,
        id_column: str | None = None,
        length_column: str | None = None,
        columns: list[str] | None = None,
        cache_dir: str | None = None,
        num_proc: int | None = None,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        batch_tokens: int | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        num_workers: int = 0,
        amount_in: AmountIn = "examples",
        order: Order | dict[str, Any] | str = "uniform",
    ):
        super().__init__(
            amount_in=amount_in,
            order=order,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            batch_tokens=batch_tokens,
            collate_fn=collate_fn,
            num_workers=num_workers,
        )
        self.files: dict[str, Any] = dict(zip(_PARTS, (in_domain, out_of_domain, val, test, predict)))
        """The files of each part, and in place of a pool with named sources those of each ``out_of_domain.NAME``."""
        self.weights: tuple[float, ...] | None = None
        if isinstance(out_of_domain, Mapping):
            sources, self.weights = files_of_sources(out_of_domain, FILES)
            del self.files[POOL]
            self.files |= {part_of(name): files for name, files in sources.items()}
        self.text_column = [text_column] if isinstance(text_column, str) else list(text_column or ())
        self.tokenizer, self.max_length = tokenizer, max_length
        self.label_column, self.id_column, self.length_column = label_column, id_column, length_column
        self.columns, self.cache_dir, self.num_proc = columns, cache_dir, num_proc
        self.label_names: list[str] = []
        self._tables: dict[str, Any] | None = None
        self._text: dict[str, Any] | None = None  # the same, without tokenization
        if len(self.text_column) > 2:
            raise InputError(f"text_column has {len(self.text_column)} columns: it must have one, or two for pairs.")
        if self.text_column and tokenizer is None:
            raise InputError("text_column needs a tokenizer: set tokenizer to an encoder's folder or name on the hub.")
        if batch_tokens and not self.knows_lengths:
            raise InputError("batch_tokens needs the lengths of examples: set text_column or length_column.")
        if amount_in == "tokens" and not self.knows_lengths:
            raise InputError("amount_in: tokens needs the lengths of examples: set text_column or length_column.")

    @property
    def knows_lengths(self) -> bool:
        """Whether examples have a number of tokens."""
        return bool(self.text_column or self.length_column)

    def without_test(self) -> Self:
        """Return a copy that leaves the test files unread."""
        other = super().without_test()
        other.files, other._tables = {**self.files, "test": None}, None
        return other

    def prepare_data(self) -> None:
        """Convert and tokenize what is not in the cache; safe to call in several processes at once."""
        if self._domains is None:
            self._read()

    def load(self) -> Domains:
        """Map the tables from the cache."""
        tables = self._read()
        self.label_names = self._found_labels(tables)
        lengths = LENGTH if self.text_column else self.length_column
        return self._domains_of(
            {
                name: FileDataset(table, self.id_column, lengths, self.label_column, self.label_names)
                for name, table in tables.items()
            }
        )

    def _domains_of(self, parts: Mapping[str, Any]) -> Domains:
        """Return the datasets of the parts, with those of named sources as one pool."""
        others = {part: dataset for part, dataset in parts.items() if not is_pool(part)}
        return Domains(**others, out_of_domain=pool_of(parts, self.weights))

    def content_of(self, part: str) -> str | None:
        """Compute a digest of all bytes of a part's files."""
        return content_of_files(expand(part, self.files[part] or ()), self._cache())

    def example_settings(self) -> dict[str, Any]:
        """Return the columns, and how their text is tokenized."""
        options = self._read_options()
        return {
            "text_column": self.text_column,
            "tokenizer": options.tokenizer,
            "max_length": options.max_length if self.text_column else None,
            "label_column": self.label_column,
            "id_column": self.id_column,
            "length_column": self.length_column,
            "columns": None if self.columns is None else sorted(self.columns),
        }

    def rows(self, part: str) -> Any:
        """Return the examples of a part with the columns of its files."""
        if not self.text_column:
            return self._read()[part]
        if self._text is None:
            files = expand_parts({name: given for name, given in self.files.items() if is_training(name)})
            columns = {name: self._columns(name) for name in files}
            options = replace(self._read_options(), tokenizer=None, max_length=None)
            self._text = read_tables(files, columns, options, self.label_column)
        return self._text[part]

    def cache_folder(self) -> Path:
        """Return the folder of converted files."""
        return self._cache()

    def scoring_tokenizer(self) -> Any:
        """Return the tokenizer."""
        return load_tokenizer(str(self.tokenizer)) if self.tokenizer else None

    def column_of_pool(self, part: str, dataset: Any, column: str) -> Any:
        """Return a column of the files."""
        table = self._read()[part]
        return table.data.column(column) if column in table.column_names else None

    def statistics(self) -> dict[str, dict[str, int]]:
        """Count the examples of each part, and their tokens if lengths are known."""
        columns = super().statistics()
        domains = self.domains
        if self.knows_lengths:
            parts = dict(zip(("train (in-domain)", "pool (out-of-domain)", "dev", "test"), vars(domains).values()))
            if self.sources:
                parts |= {source_row(name): part for name, _, part in sources_of(domains.out_of_domain) if name}
            columns["tokens"] = {
                row: 0 if parts[row] is None else int(parts[row].lengths.sum()) for row in columns["examples"]
            }
        return columns

    def _read(self) -> dict[str, Any]:
        if self._tables is not None:
            return self._tables
        files = expand_parts(self.files)
        warn_of_shared_files(files, with_ids=files if self.id_column else ())
        options = self._read_options()
        if self.collate_fn is None:
            self.collate_fn = PaddingCollator(options.tokenizer, self.label_column)
        self._tables = read_tables(files, {name: self._columns(name) for name in files}, options, self.label_column)
        return self._tables

    def _columns(self, part: str) -> Columns:
        label = None if part == "predict" else self.label_column
        order = self.order.column if is_pool(part) else None
        needed = tuple(filter(None, [self.id_column, self.length_column, label, order]))
        return Columns(
            None if self.columns is None else tuple(dict.fromkeys([*self.columns, *self.text_column, *needed])),
            needed=needed,
            text=tuple(self.text_column),
            ids=self.id_column,
            lengths=self.length_column,
        )

    def _read_options(self) -> ReadOptions:
        name = str(self.tokenizer)
        tokenizer = load_tokenizer(name) if self.text_column else None
        return ReadOptions(
            self._cache(),
            tokenizer=tokenizer,
            max_length=self.max_length if tokenizer is None else resolve_max_length(tokenizer, name, self.max_length),
            processes=self.num_proc,
        )

    def _cache(self) -> Path:
        return default_cache() if self.cache_dir is None else Path(self.cache_dir)

    def _found_labels(self, tables: Mapping[str, Any]) -> list[str]:
        """Collect the training labels if they are text, and check that those of validation and test are among them."""
        if self.label_column is None:
            return []
        found = {name: tables[name].data.column(self.label_column) for name in tables if name != "predict"}
        if str(found["in_domain"].type) != "string":
            return []
        labels = {name: set(column.unique().to_pylist()) for name, column in found.items()}
        training = set().union(*(labels[name] for name in labels if is_training(name)))
        for name, values in labels.items():
            if values - training:
                unknown = sorted(map(str, values - training))[0]
                where = f"{name} ({expand(name, self.files[name] or ())[0]})"
                raise InputError(f"{where} has the {self.label_column} '{unknown}', which is in no training file.")
        others = set().union(*(values for name, values in labels.items() if not is_pool(name)))
        pool = set().union(*(values for name, values in labels.items() if is_pool(name)))
        note_pool_labels(f"Column '{self.label_column}'", pool, others)
        return sorted(training)
