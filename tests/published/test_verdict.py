"""Two numbers with intervals, compared by hand."""

import math

import pytest

from fastadapt.published.experiment import Claim
from fastadapt.published.verdict import judge

SOURCE = "somebody 2017"


@pytest.mark.parametrize(
    ("ours", "half", "spread", "inside"),
    [(0.95, 0.03, 0.04, True), (0.951, 0.03, 0.04, True), (0.949, 0.03, 0.04, False), (1.05, 0.03, 0.04, True)],
)
def test_inside_is_the_root_of_the_sum_of_squares(ours: float, half: float, spread: float, inside: bool) -> None:
    # 0.03 and 0.04 allow 0.05
    verdict = judge(ours, half, Claim(1.0, spread, source=SOURCE), higher_is_better=True)
    assert verdict.allowed == pytest.approx(0.05)
    assert verdict.inside is inside or math.isclose(abs(ours - 1.0), 0.05)


@pytest.mark.parametrize(("higher", "words"), [(True, "outside, better"), (False, "outside, worse")])
def test_the_better_side_depends_on_the_metric(higher: bool, words: str) -> None:
    text = judge(2.0, 0.1, Claim(1.0, source=SOURCE), higher_is_better=higher).text(percent=False)
    assert text == f"{words} (+1.00, 0.90 beyond the intervals)"


def test_without_a_published_spread_only_ours_counts() -> None:
    assert judge(0.40, 0.03, Claim(0.38, source=SOURCE), higher_is_better=False).inside
    assert not judge(0.40, 0.01, Claim(0.38, source=SOURCE), higher_is_better=False).inside


@pytest.mark.parametrize("ours", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_outside_and_worse(ours: float) -> None:
    verdict = judge(ours, math.nan, Claim(0.38, source=SOURCE), higher_is_better=False)
    assert (verdict.inside, verdict.better) == (False, False)
    assert verdict.text(percent=False) == "outside: our mean is not finite"


def test_an_interval_wider_than_the_number_judges_nothing() -> None:
    verdict = judge(3736.8, 7309.6, Claim(0.38, source=SOURCE), higher_is_better=False)
    assert (verdict.inside, verdict.vague) == (False, True)
    assert verdict.text(percent=False).startswith("not judged")
