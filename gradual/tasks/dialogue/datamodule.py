"""The data of dialogue state tracking: dialogues of one target domain, and those of other domains as the pool."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from gradual.checks import integer
from gradual.data.domains import Domains
from gradual.data.module import MixedDomainDataModule, source_row
from gradual.data.part_files import files_of_named_sources
from gradual.data.relevance.settings import Order
from gradual.data.sources import POOL, pool_of
from gradual.digest import digest_of_files
from gradual.errors import InputError
from gradual.logging import note, note_oddities
from gradual.nn.encoder import load_tokenizer, padding_piece, resolve_max_length
from gradual.tasks.dialogue.data import NONE, Dialogue, DialogueSpec, Ontology, oddities, read_dialogues
from gradual.tasks.dialogue.features import DialogueFeatures, TurnCollator


class DialogueDataModule(MixedDomainDataModule):
    """Dialogues from the folder ``root/domains/DOMAIN``.

    The folder holds ``ontology.json``, ``train.tsv`` (in-domain), ``train*.tsv``, ``dev.tsv`` and ``test.tsv``. The
    pool consists of the dialogues of a ``train*.tsv`` that are not in ``train.tsv``.

    Args:
        root: The folder that contains ``domains/``.
        domain: The target domain, e.g. ``restaurant``.
        tokenizer: The tokenizer, as a folder or a name on the Hugging Face Hub. On the command line, it defaults to
            that of the model's encoder.
        pool: File with the out-of-domain dialogues, e.g. ``train4000.tsv``, or a mapping of named sources, each a file
            or ``{files: FILE, weight: NUMBER}``; None for the ``train*.tsv`` with the highest number.
        out_of_domain_slots: The slots whose labels count in out-of-domain dialogues: ``all`` (as in the paper's
            experiment), ``shared`` (those that are filled in both in-domain and out-of-domain training dialogues, of
            each named source), or a list of names or patterns such as ``hotel-*``. Other labels are left out of the
            loss (footnote 3 there).
        predict_file: File of dialogues to predict; None for ``test.tsv``.
        max_length: Maximum length of a turn in word pieces.
        max_turns: Maximum number of turns in a dialogue that is trained on; later turns are left out. The others are
            validated, tested and predicted whole.
        max_padding: Maximum share of padding inside attention; there is none anywhere else.
        batch_size: Number of training dialogues in a batch, per process; a stage may override it.
        eval_batch_size: Number of dialogues in an evaluation batch.
        num_workers: Number of processes that make batches; 0 to make them in the main process.
        order: The order in which the pool is kept: ``uniform``, ``relevance``, or a mapping with the settings of
            ``gradual.data.relevance.settings.Order``.
        trust_remote_code: Run Python code that comes with the tokenizer. On the command line, the model's setting.

    Attributes:
        ontology: Slots and values; available after ``setup``.
        target_slots: Indices of the target domain's slots; available after ``setup``.
    """

    ontology: Ontology
    target_slots: list[int]

    def __init__(
        self,
        root: str,
        domain: str,
        tokenizer: str = "",
        pool: str | dict[str, Any] | None = None,
        out_of_domain_slots: str | list[str] = "all",
        predict_file: str | None = None,
        max_length: int = 64,
        max_turns: int = 22,
        max_padding: float = 0.1,
        batch_size: int = 8,
        eval_batch_size: int = 16,
        num_workers: int = 0,
        order: Order | dict[str, Any] | str = "uniform",
        trust_remote_code: bool = False,
    ):
        super().__init__(batch_size=batch_size, eval_batch_size=eval_batch_size, num_workers=num_workers, order=order)
        self.root, self.domain, self.tokenizer, self.pool = root, domain, tokenizer, pool
        self.weights: tuple[float, ...] | None = None
        self._named: dict[str, Any] = {}
        if isinstance(pool, Mapping):
            self._named, self.weights = files_of_named_sources(pool)
        self.trust_remote_code = trust_remote_code
        self.out_of_domain_slots, self.predict_file = out_of_domain_slots, predict_file
        self.max_length, self.max_turns, self.max_padding = max_length, max_turns, max_padding
        for name, value, least in (("max_length", max_length, 4), ("max_turns", max_turns, 1)):
            integer(least).check(name, value)
        if isinstance(out_of_domain_slots, str) and out_of_domain_slots not in ("all", "shared"):
            raise InputError(
                f"out_of_domain_slots is '{out_of_domain_slots}': it must be all, shared or a list of slots."
            )

    def load(self) -> Domains:
        """Read the files and tokenize the dialogues."""
        folder = self._folder()
        self.ontology = Ontology.read(folder / "ontology.json")
        self.target_slots = self.ontology.slots_of(self.domain)
        train = self._read(folder / "train.tsv", self.max_turns)
        in_domain_ids = {dialogue.id for dialogue in train}
        pools = {
            part: [dialogue for dialogue in self._read(path, self.max_turns) if dialogue.id not in in_domain_ids]
            for part, path in self._pool_paths(folder).items()
        }
        for part, pool in pools.items():
            if part != POOL and not pool:
                raise InputError(f"{self._pool_paths(folder)[part]} has no dialogues that are not in train.tsv.")
        tokenizer = load_tokenizer(self.tokenizer, trust_remote_code=self.trust_remote_code)
        resolve_max_length(tokenizer, self.tokenizer, self.max_length, self.trust_remote_code)
        self.collate_fn = TurnCollator(padding_piece(tokenizer, self.tokenizer), self.max_padding)

        def features(dialogues: Sequence[Dialogue], **training: Any) -> DialogueFeatures:
            return DialogueFeatures(dialogues, tokenizer, self.max_length, **training)

        encoded = {
            part: features(pool, max_turns=self.max_turns, missing_slots=self._missing_slots(train, pool))
            for part, pool in pools.items()
            if pool
        }
        datasets = Domains(
            features(train, max_turns=self.max_turns),
            pool_of(encoded, self.weights),
            features(self._read(folder / "dev.tsv")),
            features(self._read(folder / "test.tsv")) if self.reads_test else None,
            features(self._read(Path(self.predict_file))) if self.predict_file else None,
        )
        parts = [datasets.in_domain, *encoded.values(), datasets.val, datasets.test, datasets.predict]
        truncated = sum(part.truncated for part in parts if isinstance(part, DialogueFeatures))
        if truncated:
            note("%d turns are longer than %d word pieces and were truncated.", truncated, self.max_length)
        return datasets

    def scoring_tokenizer(self) -> Any:
        """Return the tokenizer."""
        return load_tokenizer(self.tokenizer, trust_remote_code=self.trust_remote_code)

    def spec(self) -> DialogueSpec:
        """Return the ontology and the slots of the target domain."""
        return DialogueSpec(self.ontology, tuple(self.target_slots))

    def content_of(self, part: str) -> str | None:
        """Return a digest of the file of a part and of the ontology."""
        folder = self._folder()
        files = {"in_domain": folder / "train.tsv", "val": folder / "dev.tsv", "test": folder / "test.tsv"}
        path = files.get(part) or self._pool_paths(folder).get(part)
        return None if path is None else digest_of_files([folder / "ontology.json", path])

    def example_settings(self) -> dict[str, Any]:
        """Return the target domain, the tokenizer, the maximum lengths, and the slots of out-of-domain dialogues."""
        return {
            "domain": self.domain,
            "tokenizer": self.scoring_tokenizer(),
            "out_of_domain_slots": self.out_of_domain_slots,
            "max_length": self.max_length,
            "max_turns": self.max_turns,
        }

    def statistics(self) -> dict[str, dict[str, int]]:
        """Return Table 1 of the paper, with one column per domain folder, and the size of the target domain's pool."""
        columns = {}
        for folder in sorted(path.parent for path in Path(self.root).glob("domains/*/ontology.json")):
            ontology = Ontology.read(folder / "ontology.json")
            if folder.name != self.domain and folder.name not in ontology.domains:
                continue  # not a domain, such as a copy of one
            files = {name: folder / f"{name}.tsv" for name in ("train", "dev", "test")}
            parts = {name: read_dialogues(path, ontology) for name, path in files.items() if path.exists()}
            turns = sum(len(dialogue.turns) for part in parts.values() for dialogue in part)
            sizes = {f"dialogues, {name}": len(part) for name, part in parts.items()}
            columns[folder.name] = {"slots": len(ontology.slots_of(folder.name)), "turns": turns, **sizes}
        columns[self.domain]["dialogues, pool"] = self.pool_size
        columns[self.domain] |= {f"dialogues, {source_row(name)}": size for name, size in self.source_sizes.items()}
        return columns

    def _folder(self) -> Path:
        folder = Path(self.root) / "domains" / self.domain
        if not folder.is_dir():
            others = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())
            accepted = (
                f"the domains there are {', '.join(others)}"
                if others
                else "run `gradual download multiwoz` or `gradual init --demo` to get data"
            )
            raise InputError(f"{folder} is not a folder of dialogue files; {accepted}.")
        return folder

    def _pool_paths(self, folder: Path) -> dict[str, Path]:
        """The file of the pool, or those of its named sources, by part; none where there is no pool."""
        if self._named:
            return {part: folder / path for part, path in self._named.items()}
        if self.pool is not None:
            return {POOL: folder / str(self.pool)}
        numbered = {
            int(match[1]): path
            for path in folder.glob("train*.tsv")
            if (match := re.fullmatch(r"train(\d+)\.tsv", path.name))
        }
        return {POOL: numbered[max(numbered)]} if numbered else {}

    def _read(self, path: Path, max_turns: int | None = None) -> list[Dialogue]:
        dialogues = read_dialogues(path, self.ontology)
        note_oddities(path, oddities(dialogues, max_turns))
        return dialogues

    def _missing_slots(self, train: Sequence[Dialogue], pool: Sequence[Dialogue]) -> list[int]:
        if self.out_of_domain_slots == "all":
            return []
        slots = self.ontology.slots
        if self.out_of_domain_slots == "shared":
            shared = self._filled(train) & self._filled(pool)
            return [slot for slot in range(len(slots)) if slot not in shared]
        for pattern in self.out_of_domain_slots:
            if not any(fnmatchcase(slot, pattern) for slot in slots):
                raise InputError(f"out_of_domain_slots: '{pattern}' matches no slot in {self.ontology.path}.")
        return [
            index
            for index, slot in enumerate(slots)
            if not any(fnmatchcase(slot, pattern) for pattern in self.out_of_domain_slots)
        ]

    def _filled(self, dialogues: Sequence[Dialogue]) -> set[int]:
        """Return the slots that have a value in at least one dialogue."""
        empty = [values.index(NONE) for values in self.ontology.values]
        return {
            slot
            for dialogue in dialogues
            for turn in dialogue.turns
            for slot, value in enumerate(turn.values)
            if value != empty[slot]
        }
