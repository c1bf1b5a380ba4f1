"""The folder of a stage is looked for on the disk when it is needed first, and again only if it is gone."""

import shutil

import pytest
from controlled_runs import compare, make_experiment
from linear_model import trained

from gradual.runs.directory import StageDirectory

pytestmark = pytest.mark.usefixtures("undrawn_figures")


@pytest.fixture
def compared_settings(monkeypatch):
    """The folders whose settings were read and compared, one entry each time."""
    folders, original = [], StageDirectory.belongs_to

    def belongs_to(self, settings):
        folders.append(self.path)
        return original(self, settings)

    monkeypatch.setattr(StageDirectory, "belongs_to", belongs_to)
    return folders


def test_a_comparison_looks_for_each_folder_once(tmp_path, compared_settings):
    tree = compare(tmp_path)
    assert len(compared_settings) == len(set(compared_settings)) == len(tree.nodes) == 13


def test_a_folder_that_was_removed_is_looked_for_again(tmp_path):
    tree = compare(tmp_path, controls=False)
    run = make_experiment(tmp_path).run
    last = tree.paths["gradual", 0][-1]
    folder = last.directory(run).path
    shutil.rmtree(folder)
    assert not last.directory(run).has_begun()
    last.directory(run).reserve({"settings": "of another stage"})
    assert last.directory(run).path == folder.with_name("0-2")


def test_the_folder_of_a_control_follows_the_steps_of_what_it_copies(tmp_path):
    tree = compare(tmp_path)
    run = make_experiment(tmp_path).run
    copied, control = tree.paths["gradual", 0][1], tree.paths["gradual: same training, same restarts", 0][1]
    directory, found = copied.directory(run), control.directory(run)
    result = directory.result()
    result.steps += 5
    directory.finish(result)
    assert control.directory(run).path == found.path.with_name(f"{found.path.name}-2")
    assert len(trained(tmp_path)) == 13
