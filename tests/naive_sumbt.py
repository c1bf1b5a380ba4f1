"""SUMBT written out turn by turn, slot by slot and head by head, for comparison with the model."""

import math

import torch

from gradual.tasks.dialogue.features import MISSING


def linear(layer, x):
    return layer.weight @ x + layer.bias


def attend(attention, slot, states):
    """One slot's attention over the `L x d` states of one turn, head by head."""
    query = linear(attention.query, slot)
    keys = [linear(attention.key, state) for state in states]
    values = [linear(attention.value, state) for state in states]
    size = len(query) // attention.heads
    heads = []
    for head in range(attention.heads):
        part = slice(head * size, (head + 1) * size)
        scores = torch.stack([query[part] @ key[part] / math.sqrt(size) for key in keys])
        weights = scores.exp() / scores.exp().sum()
        heads.append(sum(weight * value[part] for weight, value in zip(weights, values)))
    return linear(attention.output, torch.cat(heads))


def gru_cell(gru, x, hidden):
    from_input = gru.weight_ih_l0 @ x + gru.bias_ih_l0
    from_hidden = gru.weight_hh_l0 @ hidden + gru.bias_hh_l0
    size = len(hidden)
    reset = torch.sigmoid(from_input[:size] + from_hidden[:size])
    update = torch.sigmoid(from_input[size : 2 * size] + from_hidden[size : 2 * size])
    new = torch.tanh(from_input[2 * size :] + reset * from_hidden[2 * size :])
    return (1 - update) * new + update * hidden


def layer_norm(norm, x):
    deviation = x - x.mean()
    return deviation / (deviation.square().mean() + norm.eps).sqrt() * norm.weight + norm.bias


def closeness(distance, belief, value):
    if distance == "euclidean":
        return -torch.linalg.vector_norm(belief - value)
    return belief @ value / (torch.linalg.vector_norm(belief) * torch.linalg.vector_norm(value))


def token_states(model, tokens, segments):
    """The encoder on one turn alone, without padding, from word-piece ids."""
    arguments = {"input_ids": torch.tensor(tokens[None].astype("int64"))}
    if getattr(model.encoder.config, "type_vocab_size", 0) > 1:
        arguments["token_type_ids"] = torch.tensor(segments[None].astype("int64"))
    return model.encoder(**arguments).last_hidden_state[0]


def naive_logits(model, dialogue, values):
    """Logits of one dialogue: a tensor of the slot's own values for each turn and slot."""
    states = [token_states(model, *turn) for turn in zip(dialogue.tokens, dialogue.segments)]
    logits = [[] for _ in states]
    for slot, vectors in zip(model.slot_vectors, values):
        hidden = None
        for turn, turn_states in enumerate(states):
            found = attend(model.attention, slot, turn_states)
            if hidden is None:
                hidden = linear(model.tracker.start, found).clamp_min(0)
            hidden = gru_cell(model.tracker.gru, found, hidden)
            belief = layer_norm(model.tracker.norm, linear(model.tracker.output, hidden))
            logits[turn].append(torch.stack([closeness(model.distance, belief, vector) for vector in vectors]))
    return logits


def naive_loss(logits, dialogues):
    """For each slot the mean cross-entropy over the turns that know it; summed over slots."""
    total = 0.0
    for slot in range(dialogues[0].labels.shape[1]):
        losses = [
            torch.log(scores[slot].exp().sum()) - scores[slot][labels[slot]]
            for turns, dialogue in zip(logits, dialogues)
            for scores, labels in zip(turns, dialogue.labels.tolist())
            if labels[slot] != MISSING
        ]
        total = total + sum(losses) / max(1, len(losses))
    return total
