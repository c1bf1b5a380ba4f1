"""What there is to train on, and what each stage would take of it, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch import LightningModule
from rich import box
from rich.table import Table

from gradual.callbacks.carry import lend_trainer
from gradual.datamodule import MixedDomainDataModule
from gradual.defaults import Defaults
from gradual.optim import parameter_groups
from gradual.results import wide_console
from gradual.schedule import Schedule, is_configured, merge


def print_plan(
    model: LightningModule, datamodule: MixedDomainDataModule, schedule: Schedule, defaults: Defaults
) -> None:
    """Print a row a stage: in-domain and out-of-domain examples, their ratio, steps per epoch and learning rates."""
    datamodule.seed, datamodule.schedule = defaults.seed, schedule
    datamodule.prepare_data()
    datamodule.setup("fit")
    lend_trainer(model, datamodule)
    model.configure_model()  # parameters that depend on the data
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for heading in ("stage", "in-domain", "out-of-domain", "ratio", "batch", "steps per epoch", "patience"):
        table.add_column(heading, justify="right")
    table.add_column("learning rates", overflow="fold")
    for k, stage in enumerate(schedule):
        datamodule.set_stage(k)
        in_domain, amount = datamodule.in_domain_size, datamodule.amounts[k]
        row = (
            k + 1,
            in_domain,
            amount,
            f"1:{amount / in_domain:.2f}" if in_domain else "-",
            datamodule.train_batch_size(),
            datamodule.steps_per_epoch(),
            defaults.patience if stage.patience is None else stage.patience,
        )
        optimizer = merge(defaults.optimizer, stage.optimizer)
        if is_configured(optimizer):
            groups = parameter_groups(model, optimizer)
            rates = ", ".join(dict.fromkeys(f"{group['name']}: {group.get('lr', 'default')}" for group in groups))
        else:
            rates = "the module's own" + ("" if optimizer.lr_scale is None else f" times {optimizer.lr_scale}")
        table.add_row(*map(str, row), rates)
    console = wide_console()
    console.print(table)
    console.print(f"Pool: {datamodule.pool_size} out-of-domain examples. Steps are per process.")


def print_statistics(columns: Mapping[str, Mapping[str, int]]) -> None:
    """Print a table of sizes.

    Args:
        columns: By name, the rows of each; a row that a column lacks is left empty there.
    """
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    for row in dict.fromkeys(row for rows in columns.values() for row in rows):
        table.add_row(row, *(str(rows.get(row, "")) for rows in columns.values()))
    wide_console().print(table)
