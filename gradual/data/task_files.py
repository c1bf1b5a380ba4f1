"""Files for a task: columns that are found by themselves, and features that are computed once.

A new task derives a data module from ``TaskFileDataModule``. It says which columns it reads, as ``Role`` objects, and
how rows become features, as a ``Features``; from there on all is done here: reading in every format, the cache, ids,
lengths. A sketch::

    @dataclass(frozen=True)
    class WordCounts(Features):
        longest: int | None

        def __call__(self, rows):  # columns have the names of their roles, whatever the files call them
            encoded = self.tokenizer(rows["text"], truncation=self.longest is not None, max_length=self.longest)
            return {"input_ids": encoded["input_ids"], "number": rows["number"]}

    class WordCountData(TaskFileDataModule):
        def __init__(self, in_domain, text_column=None, number_column=None, **settings):
            roles = (
                Role("text", text_column, ("text", "sentence"), is_text=True),
                Role("number", number_column, ("number", "count"), predicted=True),
            )
            super().__init__(in_domain, roles, **settings)

        def features(self, part):  # the tables of all parts have been read, see self.tables
            return WordCounts(self.fast_tokenizer, self.longest)

        def collator(self):
            return WordCountCollator(...)

        def spec(self):
            return ...

An example is a dict of its features and ``id``, which is text: that of the file, or else the example's position. Where
the pool has named sources, a training example also has the number of its ``source``.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradual.checks import integer
from gradual.data.cache import ReadOptions, read_tables
from gradual.data.cached_features import read_features
from gradual.data.domains import Domains
from gradual.data.example_ids import other_example, shared_ids
from gradual.data.features import LENGTH, Features
from gradual.data.file_dataset import FileDataset
from gradual.data.files import FileDataModule
from gradual.data.formats import Columns
from gradual.data.kept_pool import AmountIn
from gradual.data.part_files import expand_parts, warn_of_shared_files
from gradual.data.relevance.settings import Order
from gradual.data.roles import ID, ORDER, Role, find_columns
from gradual.data.sources import is_pool, is_training
from gradual.logging import note
from gradual.nn.encoder import load_tokenizer, resolve_max_length

log = logging.getLogger(__name__)

SOURCE = "source"
"""The name, in training examples, of the number of their source: 0 for in-domain data, then 1, 2, ... by name."""


def source_numbers(examples: Sequence[Mapping[str, Any]]) -> Tensor | None:
    """Return the number of each example's source, shape ``(n,)``; None where sources have no names."""
    return torch.tensor([example[SOURCE] for example in examples]) if SOURCE in examples[0] else None


class TaskDataset(FileDataset):
    """The features of the examples of a part, each with its ``id``: that of the file, or its position.

    Args:
        table: A ``datasets.Dataset`` of features.
        identified: Whether ids from the files identify examples across parts, so that an example with the id of a
            validation or test example is not trained on.
        source: The number of the source, which each example then has as ``source``; None for none.
    """

    def __init__(self, table: Any, identified: bool, source: int | None = None):
        super().__init__(table, ID if identified and ID in table.column_names else None, LENGTH)
        self._source = {} if source is None else {SOURCE: source}

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        found = super().__getitems__([int(index) for index in indices])
        return [
            {**row, ID: str(int(at)) if row.get(ID) is None else row[ID], **self._source}
            for at, row in zip(indices, found)
        ]


class TaskFileDataModule(FileDataModule):
    """Files of a task; the docstring of this module shows how to derive one.

    Formats, files and the cache are those of ``FileDataModule``. Columns that no setting names are found by their usual
    names in the first file of ``in_domain``, and a line of the log says which; ids, in the first file that has some. A
    file that has no column of that name, but one of another usual name, is read with that one, which the log says, too:
    a pool may have ``labels`` where the target has ``label``.

    Args:
        in_domain: Training examples of the target domain.
        roles: The columns that the task reads.
        out_of_domain: The pool: files, or a mapping of named sources, each files or ``{files: FILES, weight: NUMBER}``.
        val: Validation examples.
        test: Test examples.
        predict: Examples to predict, labelled or not; None for the test examples.
        tokenizer: Folder of a model with a fast tokenizer, or its name on the hub; on the command line it defaults to
            the model's ``pretrained``.
        id_column: Column of the examples' ids, text or integers; None for ``id`` or ``idx`` if there is one. Training
            examples with the id of a validation or test example are left out; where the column was not named and the
            same id has another content there, ids only number the examples of each file, and none is left out.
        max_length: Maximum number of tokens per example, longer ones are truncated; None for the limit of tokenizer and
            model.
        cache_dir: Folder for the converted files; None for ``gradual`` in the cache of ``datasets``.
        num_proc: Number of processes that convert and tokenize; None for one per core.
        batch_size: Training examples per batch and process; a stage may override it.
        eval_batch_size: Examples per evaluation batch; None for ``batch_size``. Where ``batch_tokens``
            is set, only predictions use it.
        batch_tokens: Instead of a number of examples, the maximum average number of tokens per batch.
        num_workers: Number of processes that load data; 0 loads in the main process.
        amount_in: What the amounts of a schedule count: ``examples``, or ``tokens``.
        order: The order in which the pool is kept: ``uniform``, ``relevance``, or a mapping with the settings of
            ``gradual.data.relevance.settings.Order``, of which ``column`` is a column of the pool's files.
        trust_remote_code: Run Python code that comes with the tokenizer. On the command line, the model's setting.

    Attributes:
        tables: The tables of the parts as they were read, by part, with the files' own columns.
        column_of: For each role that was named or found, its column.
    """

    def __init__(
        self,
        in_domain: str | list[str],
        roles: Sequence[Role],
        out_of_domain: str | list[str] | dict[str, Any] | None = None,
        val: str | list[str] | None = None,
        test: str | list[str] | None = None,
        predict: str | list[str] | None = None,
        tokenizer: str = "",
        id_column: str | None = None,
        max_length: int | None = None,
        cache_dir: str | None = None,
        num_proc: int | None = None,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        batch_tokens: int | None = None,
        num_workers: int = 0,
        amount_in: AmountIn = "examples",
        order: Order | dict[str, Any] | str = "uniform",
        trust_remote_code: bool = False,
    ):
        super().__init__(
            in_domain, out_of_domain, val, test, predict,
            tokenizer=tokenizer, max_length=max_length, id_column=id_column, cache_dir=cache_dir, num_proc=num_proc,
            batch_size=batch_size, eval_batch_size=eval_batch_size, batch_tokens=batch_tokens, num_workers=num_workers,
            amount_in=amount_in, order=order,
        )  # fmt: skip
        self.trust_remote_code = trust_remote_code
        ordered_by = [Role(ORDER, self.order.column, (), needed=False)] if self.order.column else []
        self.roles = (*roles, *ordered_by, Role(ID, id_column, (ID, "idx"), needed=False))
        self.tables: dict[str, Any] = {}
        self.column_of: dict[str, str] = {}
        self._found: dict[str, Columns] = {}
        if max_length is not None:
            integer(4).check("max_length", max_length)

    @property
    def labels_without_pool(self) -> list[str]:
        """The labels of in-domain training data that no out-of-domain example has; empty for tasks without labels."""
        return []

    @abstractmethod
    def features(self, part: str) -> Features:
        """Return what turns the rows of a part into features; ``tables`` and ``column_of`` are known.

        Args:
            part: ``in_domain``, ``out_of_domain``, ``val``, ``test`` or ``predict``; ``out_of_domain.NAME`` for each
                source of a pool with named sources.
        """

    @abstractmethod
    def collator(self) -> Callable[[list[dict[str, Any]]], Any]:
        """Return what makes a batch of examples, which are dicts of features and ``id``; called after ``features``."""

    def _forget(self) -> None:
        super()._forget()
        for name in [name for name in vars(self) if isinstance(getattr(type(self), name, None), cached_property)]:
            del self.__dict__[name]

    @cached_property
    def fast_tokenizer(self) -> Any:
        """The tokenizer, loaded."""
        return self.load_tokenizer()

    def load_tokenizer(self) -> Any:
        """Load the tokenizer; a task may want it to take words."""
        return load_tokenizer(str(self.tokenizer or ""), trust_remote_code=self.trust_remote_code)

    @cached_property
    def longest(self) -> int | None:
        """Maximum number of tokens of an example; None for no limit."""
        return resolve_max_length(self.fast_tokenizer, str(self.tokenizer), self.max_length, self.trust_remote_code)

    @property
    def padding(self) -> int:
        """The id of the token that fills up a batch."""
        tokenizer = self.fast_tokenizer
        return int(tokenizer.eos_token_id or 0) if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)

    @property
    def knows_lengths(self) -> bool:
        """Features have a number of tokens."""
        return True

    def load(self) -> Domains:
        """Map the features from the cache."""
        made = self._read()
        own = self._ids_are_of_each_file()
        self._say_shared_ids()
        self.collate_fn = self.collator()
        return self._domains_of(
            {
                part: TaskDataset(table, not (own and is_training(part)), self._number_of(part))
                for part, table in made.items()
            }
        )

    def example_settings(self) -> dict[str, Any]:
        """Return the columns that were found, the tokenizer and the maximum length; a task adds its own settings."""
        self._read()
        columns = {f"{role.name}_column": self.column_of.get(role.name) for role in self.roles if role.name != ORDER}
        own = {"id_column": self.id_column, "tokenizer": self.fast_tokenizer, "max_length": self.longest}
        return {**columns, **own}  # the column of ids may be found in test data alone

    def schema_of(self, part: str) -> int:
        """The annotation scheme of a part: 0 for that of the target domain, and 1, 2, ... for those of the pool.

        Each source of a pool with named sources has its own.
        """
        return self.pool_parts.index(part) + 1 if is_pool(part) else 0

    @property
    def pool_parts(self) -> list[str]:
        """The parts of the data that make up the pool: one, none, or one for each source with a name."""
        return [part for part, files in self.files.items() if is_pool(part) and files]

    def _number_of(self, part: str) -> int | None:
        """The number of a training part among those with names: 0 for in-domain data; None where there are no names."""
        named = any("." in part for part in self.pool_parts)
        return self.schema_of(part) if named and is_training(part) else None

    def rows(self, part: str) -> Any:
        """Return the examples of a part with the columns of its files that the task reads."""
        self._read()
        return self.tables[part]

    def scoring_tokenizer(self) -> Any:
        """Return the tokenizer."""
        return self.fast_tokenizer

    def column_of_pool(self, part: str, dataset: Any, column: str) -> Any:
        """Return a column of the files."""
        return self.values_of(ORDER, part)

    def values_of(self, role: str, part: str) -> Any:
        """Return the column of a role in a part as a ``pyarrow.ChunkedArray``; None where there is none."""
        column = self.column_of.get(role)
        return self.tables[part].data.column(column) if column in self.tables[part].column_names else None

    def kind_of(self, role: str) -> str:
        """Say in words what the column of a role holds, such as "text", "integers", "numbers" or "lists of text"."""
        from gradual.data.column_types import words

        return words(self.tables["in_domain"].data.schema.field(self.column_of[role]).type)

    def _read(self) -> dict[str, Any]:
        if self._tables is not None:
            return self._tables
        files = expand_parts(self.files)
        self._find_columns(files)
        self._say_columns()
        warn_of_shared_files(files, {part for part, columns in self._found.items() if columns.ids is not None})
        options = self._read_options()
        self.tables = read_tables(files, self._found, options, label=None)
        self._tables = {part: self._features_of(part, files[part], options) for part in files}
        return self._tables

    def find_columns(self) -> None:
        """Find the column of each role, without reading whole files; ``column_of`` has them afterwards.

        Raises:
            InputError: A file cannot be read, or a column that is needed is missing.
        """
        self._find_columns(expand_parts(self.files))

    def _read_options(self) -> ReadOptions:
        """Tables keep their texts, which features replace."""
        return ReadOptions(self._cache(), processes=self.num_proc)

    def _find_columns(self, files: Mapping[str, Sequence[Path]]) -> None:
        """Find the columns; a task whose rows have several forms finds their form before."""
        self.column_of, self._found = find_columns(self.roles, files)

    def _say_columns(self) -> None:
        """Log the columns that were found, and those of files that call them otherwise."""
        found = [
            f"{r.name} is '{self.column_of[r.name]}'" for r in self.roles if r.name in self.column_of and not r.given
        ]
        if found:
            note("Columns: %s.", ", ".join(found))
        for path, own in self._found["in_domain"].own.items():  # every part has the same
            others = [f"{role} is '{own[column]}'" for role, column in self.column_of.items() if column in own]
            note("Columns of %s: %s.", path, ", ".join(others))

    def _features_of(self, part: str, files: Sequence[Any], options: ReadOptions) -> Any:
        table = self.tables[part]
        columns = {role: of for role, of in self.column_of.items() if role != ORDER and of in table.column_names}
        return read_features(table, columns, self.features(part), files, options, self._found[part])

    def _ids_are_of_each_file(self) -> bool:
        """Whether ids that were found, not named, only number the examples of each file, as many data sets have it.

        Then examples of training and of validation or test have the same id, but another content.
        """
        column = self.column_of.get(ID)
        if self.id_column is not None or column is None:
            return False
        inputs = [
            self.column_of[role.name]
            for role in self.roles
            if not role.predicted and role.name in self.column_of and role.name != ORDER
        ]
        parts = {part: table for part, table in self.tables.items() if column in table.column_names}
        other = other_example(parts, column, inputs)
        if other is not None:
            note(
                "The ids in '%s' only number the examples of each file (%s): none is left out of training for its id. "
                "Name the column to change that.",
                column,
                other,
            )
        return other is not None

    def _say_shared_ids(self) -> None:
        """Log that several test examples have one id: they are one unit where results are compared."""
        ids = self.values_of(ID, "test") if "test" in self.tables else None
        shared = None if ids is None else shared_ids(ids)
        if shared is not None:
            examples, different = shared
            note(
                "%d test examples have %s in '%s': where test scores are compared, those with the same id count as one "
                "unit, such as the sentences of a document.",
                examples,
                "the same id" if different == 1 else f"{different} different ids",
                self.column_of[ID],
            )
