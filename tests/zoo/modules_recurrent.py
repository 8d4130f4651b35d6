"""Sequences: recurrent networks and attention."""

import torch
import torch.nn.functional as F
from torch import nn

from zoo.elementary import affine, attended, gelu, relu, sigmoid, softmax, standardised
from zoo.specimen import Specimen, rows


class Recurrent(nn.Module):
    def __init__(self, cell, width=3, **settings):
        super().__init__()
        self.cell = cell(2, 3, batch_first=True, **settings)
        self.head = nn.Linear(width, 2)

    def forward(self, x):  # [n, time, 2]
        return self.head(self.cell(x)[0].mean(1))


def rnn_step(x, h, w, u, b, c):
    return torch.tanh(affine(x, w, b) + affine(h, u, c))


def gru_step(x, h, w, u, b, c):
    of_x, of_h = affine(x, w, b).chunk(3, -1), affine(h, u, c).chunk(3, -1)
    r, z = sigmoid(of_x[0] + of_h[0]), sigmoid(of_x[1] + of_h[1])
    return (1 - z) * torch.tanh(of_x[2] + r * of_h[2]) + z * h


def lstm_step(x, state, w, u, b, c, project=None):
    h, cell = state
    i, f, g, o = (affine(x, w, b) + affine(h, u, c)).chunk(4, -1)
    cell = sigmoid(f) * cell + sigmoid(i) * torch.tanh(g)
    h = sigmoid(o) * torch.tanh(cell)
    return h if project is None else affine(h, project), cell


def run(step, x, weights, start, backwards=False):
    """Return the states of one layer at every time."""
    state, out = start, []
    for t in reversed(range(x.shape[1])) if backwards else range(x.shape[1]):
        state = step(x[:, t], state, *weights)
        out.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(out[::-1] if backwards else out, 1)


def zeros(x, width=3):
    return torch.zeros(len(x), width)


def rnn(p, x):
    *weights, v, c = p.values()
    return affine(run(rnn_step, x, weights, zeros(x)).mean(1), v, c)


def gru(p, x):
    *weights, v, c = p.values()
    return affine(run(gru_step, x, weights, zeros(x)).mean(1), v, c)


def gru_of_two_layers(p, x):
    *weights, v, c = p.values()
    first = run(gru_step, x, weights[:4], zeros(x))
    return affine(run(gru_step, first, weights[4:], zeros(x)).mean(1), v, c)


def lstm(p, x):
    *weights, v, c = p.values()
    return affine(run(lstm_step, x, weights, (zeros(x), zeros(x))).mean(1), v, c)


def projected_lstm(p, x):
    *weights, v, c = p.values()
    return affine(run(lstm_step, x, weights, (zeros(x, 2), zeros(x))).mean(1), v, c)


def lstm_both_ways(p, x):
    *weights, v, c = p.values()
    start = zeros(x), zeros(x)
    there, back = run(lstm_step, x, weights[:4], start), run(lstm_step, x, weights[4:], start, backwards=True)
    return affine(torch.cat([there, back], -1).mean(1), v, c)


class Cells(nn.Module):
    """Its own loop over two kinds of cell, from a learned state."""

    def __init__(self):
        super().__init__()
        self.start = nn.Parameter(torch.randn(3))
        self.gru, self.lstm, self.head = nn.GRUCell(2, 3), nn.LSTMCell(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        h = self.start.expand(len(x), 3)
        state = h, torch.zeros_like(h)
        for t in range(x.shape[1]):
            h = self.gru(x[:, t], h)
            state = self.lstm(h, state)
        return self.head(state[0])


def cells(p, x):
    start, *weights = p.values()
    h = start * torch.ones(len(x), 1)
    state = h, zeros(x)
    for t in range(x.shape[1]):
        h = gru_step(x[:, t], h, *weights[:4])
        state = lstm_step(h, state, *weights[4:8])
    return affine(state[0], *weights[8:])


class MultiHead(nn.Module):
    """Attention whose weights are looked at, too."""

    def __init__(self, need_weights):
        super().__init__()
        self.need_weights = need_weights
        self.attention = nn.MultiheadAttention(4, 2, bias=False, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        y, weights = self.attention(x, x, x, need_weights=self.need_weights)
        return self.head(y.mean(1)) + (0 if weights is None else weights[:, 0, :2])


def multi_head(p, x):
    w, u, v, c = p.values()
    y, _ = attended(*affine(x, w).chunk(3, -1), heads=2)
    return affine(affine(y, u).mean(1), v, c)


def multi_head_with_weights(p, x):
    w, *_ = p.values()
    return multi_head(p, x) + attended(*affine(x, w).chunk(3, -1), heads=2)[1][:, 0, :2]


class Encoder(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 6, 0.0, batch_first=True, bias=False, **settings)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.layer(x)[:, 0])


def encoder_after(p, x):
    w, u, first, second, scale, again, v, c = p.values()
    x = standardised(x + affine(attended(*affine(x, w).chunk(3, -1), heads=2)[0], u), -1) * scale
    x = standardised(x + affine(relu(affine(x, first)), second), -1) * again
    return affine(x[:, 0], v, c)


def encoder_before(p, x):
    w, u, first, second, scale, again, v, c = p.values()
    x = x + affine(attended(*affine(standardised(x, -1) * scale, w).chunk(3, -1), heads=2)[0], u)
    x = x + affine(gelu(affine(standardised(x, -1) * again, first)), second)
    return affine(x[:, 0], v, c)


class Causal(nn.Module):
    """Calls torch's attention itself."""

    def __init__(self):
        super().__init__()
        self.qkv, self.head = nn.Linear(4, 12, bias=False), nn.Linear(4, 2)

    def forward(self, x):
        q, k, v = self.qkv(x).unsqueeze(1).chunk(3, -1)
        return self.head(F.scaled_dot_product_attention(q, k, v, is_causal=True).squeeze(1).mean(1))


def causal(p, x):
    w, v, c = p.values()
    later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
    return affine(attended(*affine(x, w).chunk(3, -1), heads=1, hidden=later)[0].mean(1), v, c)


class InducedSet(nn.Module):
    """A set transformer's pooling: learned seeds attend to the elements."""

    def __init__(self):
        super().__init__()
        self.seeds = nn.Parameter(torch.randn(2, 3))
        self.keys, self.values, self.head = nn.Linear(2, 3, bias=False), nn.Linear(2, 3), nn.Linear(6, 2)

    def forward(self, x):
        scores = torch.einsum("sd,ntd->nst", self.seeds, self.keys(x)) / 3**0.5
        return self.head(torch.tanh(scores.softmax(-1) @ self.values(x)).flatten(1))


def induced_set(p, x):
    seeds, k, w, b, v, c = p.values()
    pooled = softmax(seeds @ affine(x, k).transpose(1, 2) / 3**0.5) @ affine(x, w, b)
    return affine(torch.tanh(pooled).reshape(len(x), 6), v, c)


class DeepSet(nn.Module):
    def __init__(self):
        super().__init__()
        self.each = nn.Sequential(nn.Linear(2, 3), nn.Softplus())
        self.whole = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))

    def forward(self, x):
        return self.whole(self.each(x).sum(1))


def deep_set(p, x):
    w, b, u, a, v, c = p.values()
    return affine(torch.tanh(affine(torch.log(1 + torch.exp(affine(x, w, b))).sum(1), u, a)), v, c)


short, wide = rows(3, 2), rows(3, 4)
ZOO = {
    "RNN": Specimen(lambda: Recurrent(nn.RNN), rnn, short),
    "GRU": Specimen(lambda: Recurrent(nn.GRU), gru, short),
    "GRUOfTwoLayers": Specimen(lambda: Recurrent(nn.GRU, num_layers=2), gru_of_two_layers, short),
    "LSTM": Specimen(lambda: Recurrent(nn.LSTM), lstm, short),
    "LSTMBothWays": Specimen(lambda: Recurrent(nn.LSTM, 6, bidirectional=True), lstm_both_ways, short),
    "LSTMProjected": Specimen(lambda: Recurrent(nn.LSTM, 2, proj_size=2), projected_lstm, short),
    "Cells": Specimen(Cells, cells, short),
    "MultiHead": Specimen(lambda: MultiHead(need_weights=False), multi_head, wide),
    "MultiHeadWithWeights": Specimen(lambda: MultiHead(need_weights=True), multi_head_with_weights, wide),
    "Encoder": Specimen(Encoder, encoder_after, wide),
    "EncoderNormFirst": Specimen(lambda: Encoder(norm_first=True, activation="gelu"), encoder_before, wide),
    "Causal": Specimen(Causal, causal, wide),
    "InducedSet": Specimen(InducedSet, induced_set, short),
    "DeepSet": Specimen(DeepSet, deep_set, short),
}
