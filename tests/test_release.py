"""What is released: it builds, is installed without the repository, and runs there."""

import email
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from declared_packages import holds, link
from packaging.requirements import Requirement
from tiny_models import write_model

import gradual

ROOT = Path(__file__).parents[1]


def run(*command, cwd, **environment):
    """The output of a command that must succeed, run without the repository on Python's path."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=clean | environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the source distribution, built by what is installed, since tests have no network."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (wheel,), (archive,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, archive


@pytest.fixture(scope="module")
def install(built, tmp_path_factory):
    """A function that makes an environment with the wheel and the packages that it declares, and no other ones."""
    wheel, _ = built

    def make(*extras):
        folder = tmp_path_factory.mktemp("environment")
        run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
        (packages,) = folder.glob("lib/python*/site-packages")
        declared = metadata_of(wheel).get_all("Requires-Dist")
        link([str(line) for line in map(Requirement, declared) if holds(line, extras)], packages)
        pip = [sys.executable, "-m", "pip", "--python", folder / "bin/python", "--disable-pip-version-check"]
        run(*pip, "install", "--no-index", "--no-deps", wheel, cwd=folder)
        return folder / "bin"

    return make


@pytest.fixture(scope="module")
def installed(install):
    """The environment of the README."""
    return install("files", "report")


def metadata_of(wheel):
    (name,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/METADATA"))
    return email.message_from_bytes(zipfile.ZipFile(wheel).read(name))


@pytest.mark.slow
def test_what_is_built_is_complete_and_its_description_can_be_shown(built):
    wheel, archive = built
    run(sys.executable, "-m", "twine", "check", "--strict", *built, cwd=wheel.parent)
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "gradual").rglob("*") if path.is_file()}
    ours = {name for name in ours if "__pycache__" not in name}
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in in_wheel if not name.startswith("gradual-")} == ours
    assert {"gradual/py.typed", "gradual/cli/demo.yaml", "gradual/report/page.html.j2"} <= ours
    with tarfile.open(archive) as opened:
        in_archive = {name.partition("/")[2] for name in opened.getnames()}
    assert ours | {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "tests/test_release.py"} <= in_archive


@pytest.mark.slow
def test_the_version_is_the_same_everywhere(built, installed):
    wheel, _ = built
    assert metadata_of(wheel)["Version"] == gradual.__version__
    assert run(installed / "gradual", "--version", cwd=installed) == f"gradual {gradual.__version__}\n"
    assert f"\n## {gradual.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == gradual.__version__


@pytest.mark.slow
def test_the_demo_runs_in_an_empty_folder(installed, tmp_path):
    where = run(installed / "python", "-c", "import gradual; print(gradual.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    said = run(installed / "gradual", "demo", cwd=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"demo.yaml", "demo-data", "runs"}
    content = json.loads((tmp_path / "runs/demo/compare.json").read_text())
    amounts = {name: strategy["amounts"] for name, strategy in content["strategies"].items()}
    assert amounts == {"in-domain only": [0], "mixed": [600], "one-stage": [600, 0], "gradual": [600, 200, 0]}
    table = said.partition("## Test scores by strategy")[2]
    rows = [[cell.strip(" *") for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    joint = {row[0].removesuffix("†"): float(row[rows[0].index("joint accuracy")].split()[0]) for row in rows[2:6]}
    assert joint["gradual"] == max(joint.values()), joint
    assert joint["gradual"] > 2 * joint["in-domain only"]


PIPELINE = """
import json
from transformers import pipeline
texts = [json.loads(line)["text"] for line in open("test.jsonl")]
print(json.dumps(pipeline("text-classification", "model")(texts)))
"""


@pytest.mark.slow
def test_an_export_is_loaded_by_a_pipeline(installed, tmp_path):
    words = ["good", "bad", "food", "room"]
    write_model(tmp_path / "pretrained", "bert", words)
    rows = [{"text": f"{word} {what}", "label": word} for word in words[:2] for what in words[2:]]
    parts = ("in_domain", "out_of_domain", "val", "test")
    for part in parts:
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps({**row, "source": part}) + "\n" for row in rows))
    files = [f"--data.{part}={part}.jsonl" for part in parts]
    settings = ["--optimizer.lr=0.01", "--trainer.max_epochs=20", "--data.batch_size=4", "--data.num_proc=1"]
    model = ["--model=TextClassifier", "--model.pretrained=pretrained", "--data.cache_dir=cache"]
    gradual_command = installed / "gradual"
    run(gradual_command, "fit", *model, *files, *settings, "--schedule=[4, 0]", "--run_dir=run", cwd=tmp_path)
    run(gradual_command, "export", "run", "--out", "model", cwd=tmp_path)
    run(gradual_command, "predict", "run", "--predictions=predictions.jsonl", cwd=tmp_path)
    expected = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    found = json.loads(run(installed / "python", "-c", PIPELINE, cwd=tmp_path, HF_HUB_OFFLINE="1"))
    assert [row["label"] for row in found] == [row["label"] for row in expected]
    assert [row["score"] for row in found] == pytest.approx([row["score"] for row in expected], abs=1e-3)


OWN_MODEL = """
import torch
from lightning.pytorch import LightningModule
import gradual

class Own(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[:, None]).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.training_step(batch, batch_idx))

data = gradual.MixedDomainDataModule(torch.arange(4.0), torch.arange(8.0), val=torch.arange(2.0))
print(gradual.fit(Own(), data, [8, 0], "run", max_epochs=1, optimizer={"lr": 0.01}).final["val"])
"""


@pytest.mark.slow
def test_without_extras_it_trains_and_says_what_is_missing(install, tmp_path):
    bare = install()
    assert "'loss':" in run(bare / "python", "-c", OWN_MODEL, cwd=tmp_path)
    (tmp_path / "train.jsonl").write_text('{"text": "a", "label": "b"}\n')
    files = [word for part in ("in_domain", "out_of_domain", "val") for word in (f"--{part}", "train.jsonl")]
    for extra, *command in [
        ("files", "init", *files, "--pretrained", "model", "--out", "mine.yaml"),
        ("report", "report", "run"),
        ("completion", "--print_completion", "bash"),
    ]:
        done = subprocess.run([bare / "gradual", *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2
        assert f"pip install 'gradual[{extra}]'" in done.stderr
        assert "Traceback" not in done.stderr
