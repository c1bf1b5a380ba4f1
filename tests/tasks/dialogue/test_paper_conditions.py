"""The conditions of the paper's dialogue experiment: what docs/paper/published-code.md says of its code and of ours."""

from pathlib import Path

import pytest
import torch
import yaml
from dialogue_files import write_dialogues, write_ontology
from lightning.pytorch import Callback
from slow_cases import fast_one_in

import gradual
from gradual.nn.encoder import load_encoder, load_tokenizer
from gradual.settings import OptimizerConfig
from gradual.stage.optim import parameter_groups
from gradual.tasks.dialogue import DialogueDataModule, DialogueStateTracker, Ontology, read_dialogues
from gradual.tasks.dialogue.demo import write_demo_data
from gradual.tasks.dialogue.model import Sumbt
from gradual.tasks.dialogue.vectors import text_vectors

CONFIGS = Path(__file__).parents[3] / "configs/multiwoz"
PAPERS = ("restaurant", "hotel", "table5")
VECTORS = ("model.slot_vectors", "model.value_vectors")
SCHEDULE = [4, 2, 0]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning's advice on workers and devices


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo_data(folder, train=5, dev=2, test=2, out_of_domain=4)
    return folder


def configured(name):
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())


def tracker(demo):
    torch.manual_seed(0)
    return DialogueStateTracker(str(demo / "encoder"), encoder_layers=1, hidden=12)


def fit(demo, run_dir, amounts=tuple(SCHEDULE), callbacks=(), model=None):
    """A run with the settings of the paper's configuration, at a higher rate and with few epochs."""
    content = configured("restaurant")
    data = DialogueDataModule(str(demo), "hostel", str(demo / "encoder"), batch_size=3)
    schedule = gradual.Schedule(amounts, content["later_stages"], content["last_stage"])
    return gradual.fit(
        tracker(demo) if model is None else model,
        data,
        schedule,
        run_dir,
        optimizer={**content["optimizer"], "lr": 1e-2},
        lr_schedule=content["lr_schedule"],
        max_epochs=2,
        checkpoint_every=0,
        callbacks=list(callbacks),
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
    )


class Watch(Callback):
    """Notes the vectors that a stage starts from and the learning rate of each step, and stops at one of them."""

    def __init__(self, stop_at=None):
        self.starts, self.rates, self.stop_at = [], [], stop_at

    def on_train_start(self, trainer, pl_module):
        self.starts.append([parameter.detach().clone() for parameter in vectors_of(pl_module)])
        self.rates.append([])

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.stop_at == (len(self.starts) - 1, trainer.global_step):
            raise RuntimeError("power cut")
        self.rates[-1].append(trainer.optimizers[0].param_groups[0]["lr"])

    def __deepcopy__(self, memo):  # each stage has copies
        return self


def vectors_of(module):
    return [module.get_parameter(name) for name in VECTORS]


def saved(result, stage):
    return torch.load(result.best_checkpoint(stage), weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def trained(demo, tmp_path_factory):
    """A run of three stages: its result, its model and what was watched."""
    watch, model = Watch(), tracker(demo)
    result = fit(demo, tmp_path_factory.mktemp("whole") / "run", callbacks=[watch], model=model)
    return result, model, watch


def test_the_first_stage_keeps_the_vectors_and_each_later_one_trains_them_further(demo, trained):
    result, model, watch = trained
    encoder, tokenizer = load_encoder(str(demo / "encoder")), load_tokenizer(str(demo / "encoder"))
    pretrained = text_vectors(encoder, tokenizer, model.ontology.slots, "cls")
    states = [saved(result, stage) for stage in range(3)]
    torch.testing.assert_close(states[0][VECTORS[0]], pretrained)
    for name, first, second, third in zip(VECTORS, *([state[name] for name in VECTORS] for state in states)):
        assert torch.equal(first, watch.starts[0][VECTORS.index(name)])
        assert not torch.isclose(second, first)[first != 0].all()
        assert not torch.equal(third, second)
    for stage in (1, 2):
        for name, start in zip(VECTORS, watch.starts[stage]):
            assert torch.equal(start, states[stage - 1][name]), "it goes on from the best epoch of the stage before"
    assert not any(parameter.requires_grad for parameter in vectors_of(model))


def test_trained_vectors_are_in_the_checkpoint(demo, trained):
    result, model, _ = trained
    loaded = DialogueStateTracker.load_from_checkpoint(result.best_checkpoint(2))
    for mine, theirs in zip(vectors_of(loaded), vectors_of(model)):
        assert torch.equal(mine, theirs)
        assert not mine.requires_grad
    data = DialogueDataModule(str(demo), "hostel", str(demo / "encoder"))
    data.setup()
    batch = next(iter(data.test_dataloader()))
    with torch.no_grad():
        assert torch.equal(loaded.eval()(batch), model.eval()(batch))


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", fast_one_in(3, [((0, 5),), ((1, 1),), ((2, 3),)]))
def test_a_run_that_was_stopped_trains_the_vectors_to_the_same_place(demo, trained, tmp_path, stop_at):
    result = trained[0]
    with pytest.raises(RuntimeError, match="power cut"):
        fit(demo, tmp_path / "run", callbacks=[Watch(stop_at)])
    again = fit(demo, tmp_path / "run")
    for stage in range(3):
        for name, value in saved(result, stage).items():
            assert torch.equal(saved(again, stage)[name], value), name


def test_each_step_has_the_published_rate(trained):
    """Of (x / 0.1)^2 and (1 - x)^2, and in the last stage of its own rate."""
    for rates, base in zip(trained[2].rates, (1e-2, 1e-2, 4e-5)):
        planned = len(rates)  # nothing has ended a stage early
        factors = [(k / planned / 0.1) ** 2 if k / planned < 0.1 else (1 - k / planned) ** 2 for k in range(planned)]
        assert rates == pytest.approx([base * factor for factor in factors])
    assert [len(rates) for rates in trained[2].rates] == [2 * 3, 2 * 3, 2 * 2]  # 9, 7 and 5 dialogues, 3 a batch


@pytest.mark.parametrize("name", PAPERS)
def test_the_paper_s_configurations_have_its_conditions(demo, name):
    content = configured(name)
    assert content["lr_schedule"] == {"name": "bert_linear", "warmup": 0.1, "power": 2}
    schedule = gradual.Schedule(content["schedule"], content["later_stages"], content["last_stage"])
    assert [stage.optimizer.lr for stage in schedule] == [None, None, None, 4e-5]
    data = DialogueDataModule(str(demo), "hostel", str(demo / "encoder"))
    data.setup()
    model = tracker(demo)
    data.configure(model)
    model.configure_model()
    for number, stage in enumerate(schedule):
        by_name = stage.optimizer.trainable_by_name
        groups = parameter_groups(model, OptimizerConfig(**content["optimizer"], trainable_by_name=by_name))
        decays = {id(each): group["weight_decay"] for group in groups for each in group["params"]}
        assert [decays.get(id(each)) for each in vectors_of(model)] == ([0.01] * 2 if number else [None] * 2)


# A value that the ontology lists twice


def first_of_the_highest(scores):
    """The published code's prediction; torch.max takes the first of equal scores."""
    return torch.max(scores, -1)[1].tolist()


@torch.no_grad()
def test_the_published_code_counts_a_right_answer_as_wrong_where_a_value_is_listed_twice():
    """Its label is the later of two equal vectors, and the earlier one is predicted, whatever the model has learnt."""
    listed = ["north", "modern european", "south", "modern european", "none"]
    published = {value: index for index, value in enumerate(listed)}  # as its files of labels are read
    distinct = list(dict.fromkeys(listed))
    vectors = {value: torch.nn.functional.one_hot(torch.tensor(i), 8).float() for i, value in enumerate(distinct)}
    found = {}
    for name, candidates in {"published": listed, "ours": distinct}.items():
        model = Sumbt(load_tiny(), heads=2, hidden=4)
        model.set_vectors(torch.zeros(1, 8), [torch.stack([vectors[value] for value in candidates])])
        beliefs = torch.stack([vectors[value] for value in distinct])[:, None]  # each turn believes the right value
        found[name] = first_of_the_highest(model.score(beliefs)[:, 0])
    right = [found["published"][turn] == published[value] for turn, value in enumerate(distinct)]
    assert dict(zip(distinct, right)) == {"north": True, "modern european": False, "south": True, "none": True}
    assert found["ours"] == list(range(len(distinct)))


def load_tiny():
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    return BertModel(BertConfig(vocab_size=9, **sizes), add_pooling_layer=False)


def test_here_a_value_that_is_listed_twice_is_one_candidate(tmp_path):
    write_ontology(tmp_path / "ontology.json")
    ontology = Ontology.read(tmp_path / "ontology.json")
    name = ontology.slots.index("hotel-name")
    assert ontology.values[name] == ("acorn guest house", "worth house", "do not care", "none")  # the first one twice
    write_dialogues(tmp_path / "train.tsv", [("A", [("hello", "", {"hotel-name": "acorn guest house"})])])
    (dialogue,) = read_dialogues(tmp_path / "train.tsv", ontology)
    assert dialogue.turns[0].values[name] == 0
