"""Layers with compiled code, shared weights or a forward that is its own loss."""

import e3nn.o3
import pytest
import torch
import x_transformers
from torch import nn

import fastadapt as fa
from foreign.by_hand import Case, every_number, first_order, reptile

# ---- e3nn: tensor products whose code is generated and compiled ---------------------------------------


class Equivariant(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = e3nn.o3.FullyConnectedTensorProduct("2x0e + 1x1o", "1x0e + 1x1o", "3x0e + 1x1o")
        self.out = e3nn.o3.Linear("3x0e + 1x1o", "1x1o")

    def forward(self, a, b):
        return self.out(self.mix(a, b))


def vectors(count=2, n=5):
    def batch():
        return torch.randn(n, 5), torch.randn(n, 4), torch.randn(n, 3)

    return [fa.Task(batch(), batch()) for _ in range(count)]


@every_number
def test_equivariant_layers(number):
    number(Case(Equivariant(), lambda m, b: nn.functional.mse_loss(m(b[0], b[1]), b[2]), vectors(), rate=0.2))


# ---- x-transformers -----------------------------------------------------------------------------------


def decoder(**options):
    return x_transformers.TransformerWrapper(
        num_tokens=20,
        max_seq_len=8,
        attn_layers=x_transformers.Decoder(dim=16, depth=2, heads=2, attn_dim_head=8, **options),
    )


ROUNDED = {"apart": 1e-5, "h": 1e-3}  # its softmax is in float32


def texts(count=2):
    return [fa.Task(torch.randint(20, (3, 7)), torch.randint(20, (3, 7))) for _ in range(count)]


@every_number
@pytest.mark.parametrize("options", [{}, {"rotary_pos_emb": True}], ids=["plain", "rotary"])
def test_autoregressive_wrapper_is_its_own_loss(options, number):
    torch.manual_seed(0)
    model = x_transformers.AutoregressiveWrapper(decoder(**options))
    number(Case(model, lambda m, ids: m(ids), texts(), rate=0.1, **ROUNDED))


@pytest.mark.parametrize("number", [first_order, reptile])
def test_with_fast_attention(number):
    torch.manual_seed(0)
    model = x_transformers.AutoregressiveWrapper(decoder(attn_flash=True))
    number(Case(model, lambda m, ids: m(ids), texts(), rate=0.1, **ROUNDED))


# ---- torch's own, on which these are built --------------------------------------------------------------


class Tied(nn.Module):
    """A language model whose output layer is its embedding, in a module that is registered twice."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.body = nn.ModuleDict({"rows": self.embed, "mix": nn.Linear(8, 8)})

    def forward(self, ids):
        return self.body["mix"](self.body["rows"](ids)).tanh() @ self.embed.weight.T


@every_number
def test_tied_embedding(number):
    def loss(model, ids):
        return nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())

    number(Case(Tied(), loss, texts(), rate=0.3))
