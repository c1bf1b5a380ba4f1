"""A data module for anyone's own files: JSON lines, CSV, TSV or Parquet, tokenized where a text column is named."""

from __future__ import annotations

import functools
import glob
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from gradual.checks import checked, integer
from gradual.data.arguments import BATCHES, FILES, PATH
from gradual.data.arrow import LENGTH, ArrowColumn, Reading, content_of_files, default_cache, read_tables
from gradual.data.formats import FORMATS, Columns
from gradual.data.labels import note_pool_labels
from gradual.data.module import Domains, MixedDomainDataModule
from gradual.errors import InputError
from gradual.nn.encoder import load_tokenizer, resolve_max_length

_PARTS = ("in_domain", "out_of_domain", "val", "test", "predict")
_FILES = dict.fromkeys(_PARTS, FILES)
_IGNORED = -100  # labels that torch's cross-entropy leaves out


class FileDataModule(MixedDomainDataModule):
    """Examples in files, of any size: read through Hugging Face ``datasets``, memory-mapped, never loaded whole.

    Each of the parts is a file, a pattern (``pool/*.jsonl``) or a list of these, of one format: ``.jsonl`` (or
    ``.json``), ``.csv``, ``.tsv`` (both with a header, quoted where needed) or ``.parquet``. An example is a dict with
    the values of its columns. Files are converted (and tokenized) once, in parallel, and kept by their content in
    ``cache_dir``, for all processes; delete that folder to get the space back. Nothing is downloaded.

    A column has one type in all files of all parts (``predict`` follows the others), found from all of its values; what
    does not fit is refused with file and line. Cells of CSV and TSV are numbers if every cell of the column is a number
    as JSON writes it (``03`` and ``+1`` are not), else text; an empty cell is None, or empty text in ``text_column``.

    Args:
        in_domain: Training examples of the target domain.
        out_of_domain: The pool.
        val: Validation examples.
        test: Test examples.
        predict: What ``predict`` runs on, labelled or not; None for the test examples.
        text_column: Column to tokenize, or two for pairs; it is replaced by ``input_ids``, ``attention_mask`` and,
            where the tokenizer has them, ``token_type_ids``. None leaves the columns as they are.
        tokenizer: Folder or hub's name of an encoder with a fast tokenizer; on the command line it is by
            default the ``encoder`` of the model, where that is one of gradual's.
        max_length: Tokens of an example at most, the rest is cut; None for what tokenizer and encoder take.
        label_column: Column that every example but those of ``predict`` must have. Text in it becomes an index into
            ``label_names``.
        id_column: Column with the examples' ids, text or integers, which are text as in the file; None for their
            positions.
        length_column: Column with the tokens of each example, for ``batch_tokens``; tokenized text needs none.
        columns: Further columns to read; None for all. What is in the others does not matter.
        cache_dir: Folder of the converted files; None for ``gradual`` in the cache of ``datasets``.
        num_proc: Processes that convert and tokenize; None for one a core.
        batch_size: Training examples in a batch, per process; a stage may override it.
        eval_batch_size: Examples in an evaluation batch; None for ``batch_size``.
        batch_tokens: Instead of a number of examples, the tokens that a batch holds on average at most.
        collate_fn: Makes a batch from a list of examples; None for ``PaddingCollator``.
        num_workers: Processes that load data; 0 loads in the main one.

    Attributes:
        label_names: Labels that are text, sorted, as found in the training files; after ``setup``.
    """

    @checked(**_FILES, **BATCHES, tokenizer=PATH, cache_dir=PATH, max_length=integer(1), num_proc=integer(1))
    def __init__(
        self,
        in_domain: str | list[str],
        out_of_domain: str | list[str] | None = None,
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
    ):
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            batch_tokens=batch_tokens,
            collate_fn=collate_fn,
            num_workers=num_workers,
        )
        self.files = dict(zip(_PARTS, (in_domain, out_of_domain, val, test, predict)))
        self.text_column = [text_column] if isinstance(text_column, str) else list(text_column or ())
        self.tokenizer, self.max_length = tokenizer, max_length
        self.label_column, self.id_column, self.length_column = label_column, id_column, length_column
        self.columns, self.cache_dir, self.num_proc = columns, cache_dir, num_proc
        self.label_names: list[str] = []
        self._tables: dict[str, Any] | None = None
        if len(self.text_column) > 2:
            raise InputError(f"text_column has {len(self.text_column)} columns: accepted are one, or two for pairs.")
        if self.text_column and tokenizer is None:
            raise InputError("text_column needs a tokenizer: give the encoder's folder or hub's name.")
        if batch_tokens and not self.text_column and length_column is None:
            raise InputError("batch_tokens needs to know how long examples are: give text_column or length_column.")

    def prepare_data(self) -> None:
        """Convert and tokenize what is not in the cache; several processes may do so at the same time."""
        if self._domains is None:
            self._read()

    def load(self) -> Domains:
        """Map the files' tables from the cache."""
        tables = self._read()
        self.label_names = self._found_labels(tables)
        lengths = LENGTH if self.text_column else self.length_column
        return Domains(
            **{
                name: FileDataset(table, self.id_column, lengths, self.label_column, self.label_names)
                for name, table in tables.items()
            }
        )

    def content_of(self, part: str) -> str | None:
        """A digest of all bytes of the part's files."""
        cache = default_cache() if self.cache_dir is None else Path(self.cache_dir)
        return content_of_files(expand(part, self.files[part] or ()), cache)

    def statistics(self) -> dict[str, dict[str, int]]:
        """Examples of each part, and their tokens where lengths are known."""
        columns = super().statistics()
        domains = self.domains
        if self.text_column or self.length_column:
            parts = (domains.in_domain, domains.out_of_domain, domains.val, domains.test)
            tokens = (0 if part is None else int(part.lengths.sum()) for part in parts)  # type: ignore[attr-defined]
            columns["tokens"] = dict(zip(columns["examples"], tokens))
        return columns

    def _read(self) -> dict[str, Any]:
        if self._tables is not None:
            return self._tables
        files = {name: expand(name, given) for name, given in self.files.items() if given}
        if "in_domain" not in files:
            raise InputError("in_domain is empty: give a file, a pattern or a list of these.")
        how = self._reading()
        if self.collate_fn is None:
            self.collate_fn = PaddingCollator(how.tokenizer, self.label_column)
        self._tables = read_tables(files, {name: self._columns(name) for name in files}, how, self.label_column)
        return self._tables

    def _columns(self, part: str) -> Columns:
        label = None if part == "predict" else self.label_column
        needed = tuple(filter(None, [self.id_column, self.length_column, label]))
        return Columns(
            None if self.columns is None else tuple(dict.fromkeys([*self.columns, *self.text_column, *needed])),
            needed=needed,
            text=tuple(self.text_column),
            ids=self.id_column,
            lengths=self.length_column,
        )

    def _reading(self) -> Reading:
        name = str(self.tokenizer)
        tokenizer = load_tokenizer(name) if self.text_column else None
        return Reading(
            default_cache() if self.cache_dir is None else Path(self.cache_dir),
            tokenizer=tokenizer,
            max_length=self.max_length if tokenizer is None else resolve_max_length(tokenizer, name, self.max_length),
            processes=self.num_proc,
        )

    def _found_labels(self, tables: Mapping[str, Any]) -> list[str]:
        """The labels of the training files where they are text; those of validation and test must be among them."""
        if self.label_column is None:
            return []
        found = {name: tables[name].data.column(self.label_column) for name in tables if name != "predict"}
        if str(found["in_domain"].type) != "string":
            return []
        labels = {name: set(column.unique().to_pylist()) for name, column in found.items()}
        training = labels["in_domain"] | labels.get("out_of_domain", set())
        for name, values in labels.items():
            if values - training:
                unknown = sorted(map(str, values - training))[0]
                where = f"{name} ({expand(name, self.files[name] or ())[0]})"
                raise InputError(f"{where} has the {self.label_column} '{unknown}', which is in no training file.")
        others = set().union(*(values for name, values in labels.items() if name != "out_of_domain"))
        note_pool_labels(f"Column '{self.label_column}'", labels.get("out_of_domain", ()), others)
        return sorted(training)


class FileDataset(Dataset[dict[str, Any]]):
    """The examples of a table, read from its file when they are asked for.

    Args:
        table: A ``datasets.Dataset``.
        id_column: Column of ids; None for none.
        length_column: Column of lengths; None for none.
        label_column: Column whose text becomes an index into ``label_names``; None for none.
        label_names: The labels.
    """

    def __init__(
        self,
        table: Any,
        id_column: str | None = None,
        length_column: str | None = None,
        label_column: str | None = None,
        label_names: Sequence[str] = (),
    ):
        self.table = table
        self._rows = table.remove_columns(LENGTH) if length_column == LENGTH else table
        self._id_column, self._length_column = id_column, length_column
        self._label_column = label_column if label_names and label_column in table.column_names else None
        self._labels = {name: index for index, name in enumerate(label_names)}

    @property
    def ids(self) -> ArrowColumn | None:
        """The examples' ids; None where they have none."""
        return None if self._id_column is None else ArrowColumn(self.table, self._id_column)

    @property
    def lengths(self) -> ArrowColumn | None:
        """Tokens of each example; None where they are not known."""
        return None if self._length_column is None else ArrowColumn(self.table, self._length_column)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._labelled(self._rows[int(index)])

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        return [self._labelled(example) for example in self._rows.__getitems__(indices)]

    def _labelled(self, example: dict[str, Any]) -> dict[str, Any]:
        if self._label_column is not None:
            # what predict runs on may have labels of its own, or none
            example[self._label_column] = self._labels.get(example[self._label_column], _IGNORED)
        return example


class PaddingCollator:
    """Makes a batch of examples that are dicts: a dict with an entry for each of their columns.

    Lists of numbers become a tensor padded to the longest, shape (batch, longest): ``input_ids`` with the padding
    token, the label column and those named ``label`` or ``labels`` with -100, others with 0. Numbers become a tensor,
    shape (batch,); all else stays a list.

    Args:
        tokenizer: Says the padding token and on which side it goes; None for 0, on the right.
        label_column: A column of labels, whatever its name; None for none.
    """

    def __init__(self, tokenizer: Any = None, label_column: str | None = None):
        self.side = "right" if tokenizer is None else tokenizer.padding_side
        self.padding: dict[str | None, int] = {"label": _IGNORED, "labels": _IGNORED, label_column: _IGNORED}
        if tokenizer is not None:
            self.padding |= {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id}

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch."""
        return {name: self._column(name, [example[name] for example in examples]) for name in examples[0]}

    def _column(self, name: str, values: list[Any]) -> Any:
        if all(map(_is_number, values)):
            return torch.tensor(values)
        if all(isinstance(value, list) and all(map(_is_number, value)) for value in values):
            rows = [torch.tensor(value) for value in values]
            dtypes = {row.dtype for row in rows if len(row)} or {torch.long}  # an empty row is of no type
            dtype = functools.reduce(torch.promote_types, dtypes)
            rows = [row.to(dtype) for row in rows]
            return pad_sequence(rows, True, self.padding.get(name, 0), self.side)
        return values


def _is_number(value: Any) -> bool:
    """Whether a tensor holds a value."""
    return isinstance(value, float) or (isinstance(value, int) and -(2**63) <= value < 2**63)


def expand(name: str, given: str | Sequence[str]) -> list[Path]:
    """The files that a setting names, those of a pattern sorted.

    Args:
        name: The setting, for messages.
        given: A file, a pattern, or a list of these.

    Raises:
        InputError: There is no such file, or not all are of one format that can be read.
    """
    paths: list[Path] = []
    for pattern in [given] if isinstance(given, str | Path) else given:
        path = Path(pattern)
        matches = glob.glob(str(pattern), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute patterns
        found = [path] if path.exists() else [Path(match) for match in sorted(matches)]
        if not found:
            what = "matches no file" if glob.has_magic(str(pattern)) else "is not there"
            raise InputError(f"{name}: {pattern} {what}.")
        paths += found
    for path in paths:
        if path.is_dir():
            raise InputError(f"{name}: {path} is a folder; name its files, e.g. {path / '*.jsonl'}.")
        if path.suffix.lower() not in FORMATS:
            raise InputError(f"{name}: {path} is of an unknown kind; accepted are {', '.join(FORMATS)}.")
        if path.suffix.lower() != paths[0].suffix.lower():
            raise InputError(f"{name}: {path} and {paths[0]} are of two formats; one part's files are all of one.")
    return paths
