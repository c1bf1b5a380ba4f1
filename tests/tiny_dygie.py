"""A small random DyGIE++ that predicts some of everything, and batches for it."""

import torch
from dialogue_files import tiny_bert
from events_examples import LABELS, encoded_documents
from naive_dygie import WIDTH

from gradual.tasks.events.batch import SentenceCollator
from gradual.tasks.events.documents import LAYERS
from gradual.tasks.events.loss import heads
from gradual.tasks.events.model import Dygie

# One token, one of each parity, one that every candidate count reaches its limit in, with every distance there is.
LENGTHS = [[1, 5], [12, 2, 9], [80], [7, 3]]


def make_model(encoder=None, labels=LABELS, layers=LAYERS):
    """A small model in evaluation mode that predicts some of everything."""
    torch.manual_seed(1)
    model = Dygie(encoder or tiny_bert(max_position_embeddings=128), features=5, hidden=12)
    model.add_scorers(labels, WIDTH, layers)
    model.eval()
    with torch.no_grad():
        for parameter in model.scorers.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
        batch = collate(encoded_documents(LENGTHS, seed=8), relations=bool(labels.relations))
        for head in heads(model(batch), batch, {}):
            model.scorers[head.name].output.bias -= head.logits[:, 1:].amax(1).median()  # half of the rows are null
    return model


def collate(documents, max_padding=0.1, pruning=None, relations=True, pad_token_id=0):
    return SentenceCollator(pad_token_id, WIDTH, pruning, relations, max_padding)(documents)
