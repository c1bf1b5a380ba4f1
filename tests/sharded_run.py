"""A run whose module is divided among processes (FSDP2 on CPUs); run as a script, ``sharded_run.py all FOLDER 2``."""

import json
import sys
from pathlib import Path

import torch
from distributed_run import QUIET, LinearModel, data
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import gradual
from gradual.distributed import of_all_processes
from gradual.nn.frozen import leave_out


class Divided(LinearModel):
    """Each process has some rows of each weight; notes the whole weights that each stage starts from.

    The layer under the one that is trained passes its inputs on, is frozen, and is in no checkpoint.
    """

    starts: list[list[list[float]]] = []

    def __init__(self):
        super().__init__(drop=0.0)
        self.layer, self.under = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3, bias=False)
        torch.nn.init.eye_(self.under.weight).requires_grad_(False)
        leave_out(self, ["under.weight"])

    def _losses(self, batch):
        return (self.layer(self.under(batch[0] + self.shift)) - batch[1]).square().mean(1)

    def configure_model(self):
        if not isinstance(self.layer.weight, DTensor):
            for layer in (self.layer, self.under):
                fully_shard(layer, mesh=self.device_mesh["data_parallel"])

    def on_fit_start(self):
        assert isinstance(self.under.weight, DTensor)
        assert torch.equal(self.under.weight.full_tensor(), torch.eye(3))
        assert isinstance(self.layer.weight, DTensor)
        assert self.layer.weight.to_local().shape[0] < 3
        self.starts.append(self.layer.weight.full_tensor().tolist())


def train(folder: Path, whole: bool) -> Divided:
    strategy = ModelParallelStrategy(
        data_parallel_size=2, tensor_parallel_size=1, save_distributed_checkpoint=not whole
    )
    torch.manual_seed(0)
    model = Divided()
    gradual.fit(
        model, data(), [20, 5, 0], folder / "run", optimizer={"lr": 0.05}, max_epochs=2,
        accelerator="cpu", devices=2, strategy=strategy, **QUIET,
    )  # fmt: skip
    return model


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    model = train(folder, whole=True)
    (folder / "starts.json").write_text(json.dumps(of_all_processes(model.starts)))
    result = folder / "run/seed-0/20/5/0/result.json"
    result.with_name("before.json").write_text(result.read_text())
    of_all_processes("about to finish the stage once more, from its last checkpoint")
    result.unlink(missing_ok=True)
    train(folder, whole=True)
    try:
        train(folder / "shares", whole=False)
    except gradual.InputError as error:
        (folder / "refused.txt").write_text(str(error))
