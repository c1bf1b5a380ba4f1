"""``gradual sample``: the examples of each stage as JSON lines, for any trainer to run the stages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gradual import __version__
from gradual.data.module import MixedDomainDataModule
from gradual.data.order import derive_seed, draw
from gradual.data.sources import IN_DOMAIN, part_of, sources_of
from gradual.data.subsets import Joined, size_of
from gradual.errors import InputError
from gradual.files import sha256, whole_folder
from gradual.schedule import Schedule

MANIFEST = "manifest.json"
_OUT_OF_DOMAIN = "out-of-domain"  # the source of a pool without names
_AT_ONCE = 1000  # examples that are read


def write_samples(data: MixedDomainDataModule, schedule: Schedule, out: Path) -> Path:
    """Write the in-domain examples and the sample of each stage, shuffled, and a manifest.

    The folder then has for each stage ``stage-1.jsonl``, one example per line with the columns of its file, and
    ``stage-1.ids.jsonl``, the ``id`` and the ``source`` of each of these lines. ``manifest.json`` has their numbers of
    examples and checksums, and the settings that stages override.

    Args:
        data: The data, whose seed is set.
        schedule: The stages.
        out: The folder, which must not exist or be empty.

    Returns:
        The manifest.

    Raises:
        InputError: The schedule does not fit the pool, the folder has content, or an example is no JSON object.
    """
    data.schedule = schedule
    data.prepare_data()
    data.setup("fit")
    rows = _rows(data)
    with whole_folder(out) as folder:
        stages = [_write_stage(data, k, rows, folder) for k in range(len(schedule))]
        manifest = {
            "gradual": __version__,
            "seed": data.seed,
            "order": data.order.to_plain(),
            "amount_in": data.amount_in,
            "schedule": schedule.to_list(),
            "stages": stages,
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return out / MANIFEST


def _rows(data: MixedDomainDataModule) -> Joined:
    """The training examples as they were read: in-domain data and then the pool, source by source."""
    parts = [data.rows("in_domain")]
    if data.domains.out_of_domain is not None:
        parts += [data.rows(part_of(name)) for name, _, _ in sources_of(data.domains.out_of_domain)]
    return Joined(parts)


def _write_stage(data: MixedDomainDataModule, k: int, rows: Joined, folder: Path) -> dict[str, Any]:
    data.set_stage(k)
    in_domain, sample = data.in_domain_positions(), data.sample()
    positions = np.concatenate([in_domain, sample + size_of(data.domains.in_domain)])
    ids = [(id_, IN_DOMAIN) for id_ in data.ids_of("in_domain", in_domain)]
    ids += [_id_and_source(id_, bool(data.sources)) for id_ in data.pool_ids(sample)]
    shuffled = draw(len(positions), len(positions), derive_seed(data.seed, "file", *data.amounts[: k + 1])).tolist()
    names = {"file": f"stage-{k + 1}.jsonl", "ids_file": f"stage-{k + 1}.ids.jsonl"}
    with (folder / names["file"]).open("w", encoding="utf-8") as file:
        for line in _lines(rows, positions[shuffled].tolist()):
            file.write(line + "\n")
    with (folder / names["ids_file"]).open("w", encoding="utf-8") as file:
        for place in shuffled:
            id_, source = ids[place]
            file.write(json.dumps({"id": id_, "source": source}, ensure_ascii=False) + "\n")
    sizes: dict[str, Any] = {"in_domain": len(in_domain), "out_of_domain": len(sample), "sources": data.composition}
    if data.amount_in == "tokens":
        sizes["out_of_domain_tokens"] = data.sample_tokens()
    return {
        "file": names["file"],
        "sha256": sha256(folder / names["file"]),
        "ids_file": names["ids_file"],
        "ids_sha256": sha256(folder / names["ids_file"]),
        "examples": len(positions),
        **sizes,
        "overrides": data.schedule[k].overrides(),
    }


def _lines(rows: Joined, positions: list[int]) -> Iterator[str]:
    for start in range(0, len(positions), _AT_ONCE):
        for row in rows.__getitems__(positions[start : start + _AT_ONCE]):
            try:
                if not isinstance(row, dict):
                    raise TypeError(f"a {type(row).__name__}")
                yield json.dumps(row, ensure_ascii=False, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise InputError(
                    f"An example cannot be written as a JSON object ({error}): gradual sample needs examples that are "
                    "mappings of plain data, as those of files."
                ) from error


def _id_and_source(id_: str, named: bool) -> tuple[str, str]:
    source, _, own = id_.partition("/") if named else (_OUT_OF_DOMAIN, "", id_)
    return own, source
