"""Tables of the data and of what each stage would train on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule
from rich import box
from rich.table import Table

from gradual.data.module import MixedDomainDataModule
from gradual.experiment.results import wide_console
from gradual.schedule import Schedule
from gradual.settings import MAX_EPOCHS, TrainSettings, is_configured
from gradual.stage.layers import make_layers
from gradual.stage.optim import check_patterns, parameter_groups, trainable_parameters


def print_plan(
    model: LightningModule,
    datamodule: MixedDomainDataModule,
    schedule: Schedule,
    defaults: TrainSettings,
    max_epochs: int | None = None,
) -> None:
    """Print one row per stage: its examples and their ratio, batch size, steps per epoch, limits and learning rates.

    The out-of-domain examples are followed by their tokens, where amounts count these, and by those of each source.

    Args:
        model: The model.
        datamodule: The data.
        schedule: The stages.
        defaults: The settings of the experiment.
        max_epochs: Those of the Trainer; None for ``MAX_EPOCHS``.
    """
    datamodule.seed, datamodule.schedule = defaults.seed, schedule
    datamodule.prepare_data()
    datamodule.setup("fit")
    make_layers(model, datamodule)
    check_patterns(model, defaults.optimizer)
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    headings = ("stage", "in-domain", "out-of-domain", "ratio", "batch", "steps per epoch", "max epochs", "patience")
    limited = any(stage.max_steps for stage in schedule)
    tokens = datamodule.amount_in == "tokens"
    sample = [*(["tokens"] if tokens else []), *datamodule.sources]
    for heading in (*headings[:3], *sample, *headings[3:], *(["max steps"] if limited else [])):
        table.add_column(heading, justify="right")
    table.add_column("learning rates", overflow="fold")
    for k, stage in enumerate(schedule):
        datamodule.set_stage(k)
        in_domain, amount = datamodule.in_domain_size, datamodule.amounts[k]
        row = (
            k + 1,
            in_domain,
            amount,
            *([datamodule.sample_tokens()] if tokens else []),
            *datamodule.composition.values(),
            f"1:{amount / in_domain:.2f}" if in_domain else "-",
            datamodule.train_batch_size(),
            datamodule.steps_per_epoch(),
            stage.max_epochs or (MAX_EPOCHS if max_epochs is None else max_epochs),
            defaults.patience if stage.patience is None else stage.patience,
            *([stage.max_steps or "-"] if limited else []),
        )
        optimizer = defaults.optimizer_of(stage)
        if is_configured(optimizer):
            groups = parameter_groups(model, optimizer)
            rates = ", ".join(dict.fromkeys(f"{group['name']}: {_rate(group)}" for group in groups))
        else:
            trainable_parameters(model, optimizer.trainable_by_name)  # refuses what fit would refuse
            rates = "the module's own" + ("" if optimizer.lr_scale is None else f" times {optimizer.lr_scale}")
        table.add_row(*map(str, row), rates)
    console = wide_console()
    console.print(table)
    for remark in datamodule.remarks_on(schedule):
        console.print(remark)
    console.print(
        f"Pool: {datamodule.pool_size} out-of-domain examples{_of_sources(datamodule)}. Steps are per process."
    )


def _of_sources(datamodule: MixedDomainDataModule) -> str:
    sizes = ", ".join(f"{size} {name}" for name, size in datamodule.source_sizes.items())
    return f" ({sizes})" if sizes else ""


def print_statistics(columns: Mapping[str, Mapping[str, int]]) -> None:
    """Print a table of sizes.

    Args:
        columns: The rows of each column by name; a row that a column lacks is left empty.
    """
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    for row in dict.fromkeys(row for rows in columns.values() for row in rows):
        table.add_row(row, *(str(rows.get(row, "")) for rows in columns.values()))
    wide_console().print(table)


def _rate(group: Mapping[str, Any]) -> str:
    """A learning rate without the error of a product such as 0.003 * 0.4."""
    return f"{group['lr']:.12g}" if "lr" in group else "default"
