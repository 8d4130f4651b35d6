"""Witten-Bell: by hand for short texts, a distribution everywhere, and a base where nothing was seen."""

import math

import pytest
import torch

from fastadapt.compare.ngrams import WittenBell
from fastadapt.errors import ConfigError


def by_hand(texts, symbols, order, base, context, c):
    """Return P(c | context) by counting."""
    p = base
    for k in range(order + 1):
        if k > len(context):
            break
        h = context[len(context) - k :]
        after = [t[i + k] for t in texts for i in range(len(t) - k) if t[i : i + k] == h]
        kinds = len(set(after))
        if after:
            p = (after.count(c) + kinds * p) / (len(after) + kinds)
    return p


def test_it_counts_as_by_hand_and_contexts_end_with_their_text():
    texts = [[0, 1, 2, 0, 1, 0, 0, 1, 2], [2, 2, 1, 0, 1]]
    text = [1, 2, 0, 1, 2, 2, 0, 0]
    model = WittenBell([torch.tensor(t) for t in texts], symbols=3, order=3)
    for i in range(len(text)):
        want = by_hand(texts, 3, 3, 1 / 3, text[:i], text[i])
        got = float(model.probabilities(torch.tensor(text), i, i + 1))
        assert got == pytest.approx(want, rel=1e-12)
    whole = model.probabilities(torch.tensor(text), 2, 8)
    one_by_one = [float(model.probabilities(torch.tensor(text), i, i + 1)) for i in range(2, 8)]
    torch.testing.assert_close(whole, torch.tensor(one_by_one, dtype=torch.float64))
    assert model.bits(torch.tensor(text), 2, 8) == pytest.approx(-sum(map(math.log2, one_by_one)) / 6)


def test_chances_sum_to_one_with_a_base_and_without():
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(0, 5, (200,), generator=generator) for _ in range(3)]
    pooled = WittenBell(texts[:2], 5, order=4)
    for model in (pooled, WittenBell([texts[2]], 5, order=2, base=pooled), WittenBell([texts[2][:0]], 5, base=pooled)):
        begun = texts[2][:50]
        total = sum(float(model.probabilities(torch.cat([begun, torch.tensor([c])]), 50, 51)) for c in range(5))
        assert total == pytest.approx(1.0)


def test_without_counts_it_is_its_base_and_that_is_uniform():
    empty = WittenBell([torch.tensor([], dtype=torch.long)], 112)
    text = torch.randint(0, 112, (20,))
    assert empty.bits(text, 0, 20) == pytest.approx(math.log2(112))
    with pytest.raises(ConfigError, match=r"order must be 0\.\.8"):
        WittenBell([], 112, order=9)
    with pytest.raises(ConfigError, match="63 bits"):
        WittenBell([], 10_000, order=5)
