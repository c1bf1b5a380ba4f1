"""A run directory of an earlier version, which says little of what it was trained with."""

import json
import logging

import pytest
from identified_runs import Net, Stretched, data, fit, refusal

EARLIER = {
    "python": {"model": "__main__.Net", "data": "gradual.data.module.MixedDomainDataModule", "batch_size": 4,
               "batch_tokens": None, "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "max_epochs": 1}},
    "command line": {"model": {"class_path": "my.Net", "init_args": {"hidden": 4}}, "monitor": "val/loss",
                     "data": {"class_path": "gradual.MixedDomainDataModule", "init_args": {"batch_size": 4}},
                     "optimizer": {"class_path": None, "lr": 0.05}, "lr_schedule": {"name": None}, "patience": 5,
                     "trainer": {"max_epochs": 1, "precision": None, "accelerator": "cpu", "devices": "auto"}},
}  # fmt: skip


@pytest.mark.parametrize("version", EARLIER)
def test_a_directory_of_an_earlier_version_is_taken_and_compared_from_then_on(done, version, caplog):
    path = done / "run/experiment.json"
    path.write_text(json.dumps(EARLIER[version]))
    for result in done.rglob("result.json"):
        content = json.loads(result.read_text())
        del content["test_data"]
        result.write_text(json.dumps(content))
        (result.parent / "checksums.json").unlink()
    assert refusal(done, max_epochs=2) == "trainer.max_epochs: 1, now 2"
    assert refusal(done, data=data(batch_size=8)) in ("batch_size: 4, now 8", "data.batch_size: 4, now 8")
    assert refusal(done, Stretched()) == "model: 'Net', now 'Stretched'"
    with caplog.at_level(logging.INFO):
        assert not fit(done)[0].trained
        assert fit(done)[0].tested == 0
    said = "run does not record its model and data: they are assumed to be the current ones."
    assert [record.getMessage().endswith(said) for record in caplog.records].count(True) == 1
    assert refusal(done, Net(dropout=0.9)) == "model: drop.p 0.1, now 0.9"
    assert fit(done, data=data(test=("test", 6, 3.0, 5)))[0].tested == 2
