"""Many identities: what a step sees, and that it is the whole softmax where it sees all."""

import json
from pathlib import Path

import pytest
import torch

from fastadapt.errors import ConfigError, TaskError
from fastadapt.faces.many import SampledIdentities
from fastadapt.faces.margin import margin_softmax


def test_with_all_rows_it_is_the_whole_softmax(double):
    rows = SampledIdentities(30, 4, rate=1.0, scale=8.0)
    x, y = torch.randn(6, 4, requires_grad=True), torch.randint(30, (6,))
    value = rows(x, y)
    value.backward()
    weight, own = rows.weight.detach().clone().requires_grad_(), x.detach().clone().requires_grad_()
    want = margin_softmax(own, weight, y, scale=8.0, margin=0.35)
    want.backward()
    torch.testing.assert_close(value.detach(), want.detach())
    torch.testing.assert_close(rows.weight.grad.to_dense(), weight.grad)
    torch.testing.assert_close(x.grad, own.grad)


def test_a_step_sees_the_identities_of_the_batch_and_others_at_random():
    rows = SampledIdentities(500, 4, rate=0.1)
    y = torch.tensor([3, 499, 3, 77])
    seen = set()
    for _ in range(5):
        drawn, places = rows.drawn(y)
        assert len(drawn) == 50 == len(drawn.unique()) and torch.equal(drawn[places], y)
        seen |= set(drawn.tolist())
    assert len(seen) > 150
    few = SampledIdentities(500, 4, rate=0.001)
    assert few.drawn(y)[0].tolist() == [3, 77, 499]  # never fewer than the batch's own


def test_rows_that_were_not_drawn_are_not_moved():
    rows = SampledIdentities(500, 4, rate=0.02)
    before = rows.weight.detach().clone()
    y = torch.tensor([3, 77])
    torch.manual_seed(5)
    drawn, _ = rows.drawn(y)
    torch.manual_seed(5)
    rows(torch.randn(2, 4), y)  # draws features first
    optimizer = torch.optim.SparseAdam([rows.weight], 0.1)
    torch.manual_seed(5)
    loss = rows(torch.ones(2, 4), y)
    loss.backward()
    optimizer.step()
    moved = (rows.weight.detach() != before).any(1).nonzero().flatten()
    assert set(moved.tolist()) <= set(drawn.tolist()) and {3, 77} <= set(moved.tolist())


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: SampledIdentities(1, 4), ConfigError, r"got \[1, 4\]"),
        (lambda: SampledIdentities(9, 4, rate=0.0), ConfigError, "got 0.0"),
        (lambda: SampledIdentities(9, 4)(torch.ones(1, 4), torch.tensor([9])), TaskError, "in 9..9"),
        (lambda: SampledIdentities(9, 4)(torch.ones(1, 4), torch.tensor([], dtype=torch.long)), TaskError, r"got \(0,"),
    ],
)
def test_what_is_no_identity_is_refused(make, error, words):
    with pytest.raises(error, match=words.replace("..", r"\.\.")):
        make()


def test_the_page_says_what_the_result_file_says():
    root = Path(__file__).parents[2]
    record = json.loads((root / "benchmarks" / "results" / "many_identities.json").read_text(encoding="utf-8"))
    page = (root / "docs" / "faces.md").read_text(encoding="utf-8")
    for words, each in zip(("all", "a tenth", "a hundredth"), record["ways"], strict=True):
        more = each["MB at most"] - each["MB before"]
        memory = f"{more} MB" if more else "below what can be read"
        assert f"| {words} | {each['seconds a step']:.2f} | {memory} |" in page
