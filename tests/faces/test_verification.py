"""Verification against hand-made scores, closed forms, and a bootstrap that copies rows and columns."""

import math

import numpy as np
import pytest

from fastadapt.errors import ConfigError, DataError
from fastadapt.faces.protocol import FaceProtocol, ten_fold_of, verification
from fastadapt.faces.resampled import Resampled
from fastadapt.faces.verification import (
    Scores,
    area,
    best_threshold,
    cosines,
    equal_error,
    roc,
    tar_at_far,
    ten_fold,
)

GENUINE = np.array([0.9, 0.8, 0.55, 0.3])
IMPOSTOR = np.array([0.7, 0.6, 0.5, 0.4, 0.35, 0.2, 0.1, 0.0, -0.1, -0.2])


def random_scores(people=12, probes=3, lift=0.5, seed=0, strangers=0):
    rng = np.random.default_rng(seed)
    probe = np.concatenate((np.repeat(np.arange(people), probes), 100 + np.arange(strangers)))
    matrix = rng.normal(size=(len(probe), people))
    matrix[np.arange(people * probes), probe[: people * probes]] += lift
    matrix = matrix.round(1)
    return Scores(matrix, probe, np.arange(people))


def test_the_golden_values():
    assert tar_at_far(GENUINE, IMPOSTOR, 0.1) == tar_at_far(GENUINE, IMPOSTOR[::-1], 0.1)
    found = tar_at_far(GENUINE, IMPOSTOR, 0.1)
    assert (found.value, found.true_accepts) == (0.6, 0.5)
    found = tar_at_far(GENUINE, IMPOSTOR, 0.2)
    assert (found.value, found.true_accepts) == (0.5, 0.75)
    assert area(GENUINE, IMPOSTOR) == pytest.approx(0.825)


def test_two_normal_distributions_have_their_closed_forms():
    rng = np.random.default_rng(0)
    genuine, impostor = rng.normal(2, 1, 200_000), rng.normal(0, 1, 200_000)
    phi = lambda x: 0.5 * (1 + math.erf(x / math.sqrt(2)))  # noqa: E731
    assert tar_at_far(genuine, impostor, 0.01).true_accepts == pytest.approx(phi(2 - 2.3263479), abs=0.01)
    assert area(genuine, impostor) == pytest.approx(phi(2 / math.sqrt(2)), abs=0.002)
    assert equal_error(genuine, impostor) == pytest.approx(phi(-1), abs=0.002)


def test_only_the_order_of_scores_counts():
    scores = random_scores()
    other = Scores(np.exp(3 * scores.matrix), scores.probe, scores.gallery)
    for measure in (area, equal_error, lambda g, i: tar_at_far(g, i, 0.1).true_accepts):
        assert measure(scores.genuine, scores.impostor) == pytest.approx(measure(other.genuine, other.impostor))
    assert scores.rank_one() == other.rank_one()


def test_scores_that_are_all_equal_accept_nobody():
    same = np.full(5, 0.3), np.full(20, 0.3)
    assert tar_at_far(*same, 0.1).true_accepts == 0 and tar_at_far(*same, 0.1).false_accepts == 0
    assert area(*same) == 0.5
    assert equal_error(*same) == pytest.approx(0.5)
    assert Scores(np.zeros((3, 3)), np.arange(3), np.arange(3)).rank_one() == 0


@pytest.mark.parametrize("far", [0.0, 0.05, 0.1, 0.33, 0.9])
def test_never_more_impostors_are_accepted_than_asked(far):
    scores = random_scores(seed=3)
    assert tar_at_far(scores.genuine, scores.impostor, far).false_accepts <= far


def test_the_curve_ends_in_the_corners_and_its_area_is_that_of_all_pairs():
    scores = random_scores(seed=4)
    false, true = roc(scores.genuine, scores.impostor)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(true, false) == pytest.approx(area(scores.genuine, scores.impostor))
    pairs = scores.genuine[:, None] - scores.impostor[None]
    assert ((pairs > 0) + (pairs == 0) / 2).mean() == pytest.approx(area(scores.genuine, scores.impostor))


def test_shuffled_identities_are_found_as_often_as_by_guessing():
    scores = random_scores(people=20, probes=40, lift=0.0)
    exact = np.random.default_rng(1).normal(size=scores.matrix.shape)
    assert Scores(exact, scores.probe, scores.gallery).rank_one() == pytest.approx(1 / 20, abs=0.025)


def copied(scores, times):
    """The scores of identities that are there several times, as copies of rows and columns."""
    chosen = np.repeat(np.arange(len(scores.gallery)), times)
    genuine, impostor, hits = [], [], []
    for copy, person in enumerate(chosen):
        for row in np.flatnonzero(scores.probe == scores.gallery[person]):
            others = [scores.matrix[row, g] for c, g in enumerate(chosen) if c != copy and g != person]
            genuine.append(scores.matrix[row, person])
            impostor += others
            everyone = np.delete(scores.matrix[row], person)
            hits.append(genuine[-1] > everyone.max())
    return np.array(genuine), np.array(impostor), float(np.mean(hits))


@pytest.mark.parametrize("seed", range(3))
def test_identities_that_count_several_times_are_copies_of_their_rows_and_columns(seed):
    scores = random_scores(people=7, seed=seed)
    times = np.random.default_rng(seed).integers(0, 3, 7)
    genuine, impostor, best = copied(scores, times)
    found = Resampled(scores, (0.1, 0.3)).measure(times)
    assert found["tar@0.1"] == pytest.approx(tar_at_far(genuine, impostor, 0.1).true_accepts)
    assert found["tar@0.3"] == pytest.approx(tar_at_far(genuine, impostor, 0.3).true_accepts)
    assert found["auc"] == pytest.approx(area(genuine, impostor))
    assert found["eer"] == pytest.approx(equal_error(genuine, impostor))
    assert found["rank-1"] == pytest.approx(best)


def test_the_interval_is_over_identities_and_wider_than_over_pairs():
    """Forty equal probes of each of ten identities say no more than one of each."""
    once = random_scores(people=10, probes=1, lift=1.0)
    many = Scores(np.repeat(once.matrix, 40, 0), np.repeat(once.probe, 40), once.gallery)
    a, b = (verification(s, "room", FaceProtocol(resamples=300)).numbers["auc"] for s in (once, many))
    assert a.value == pytest.approx(b.value)
    assert (b.high - b.low) == pytest.approx(a.high - a.low, rel=0.05)
    assert a.low < a.value < a.high


def test_rates_with_too_few_impostors_behind_them_are_left_out():
    told = verification(random_scores(people=12), "room", FaceProtocol(resamples=100)).numbers
    assert "tar@0.1" in told and "tar@0.01" not in told  # 396 impostor pairs: 4 above it


def test_probes_of_nobody_in_the_gallery_count_as_impostors_alone():
    scores = random_scores(strangers=4)
    known = random_scores()
    assert len(scores.impostor) == len(known.impostor) + 4 * 12
    assert Scores(scores.matrix[:36], scores.probe[:36], scores.gallery).rank_one() == scores.rank_one()
    assert Resampled(scores, (0.1,)).measure(np.ones(12))["auc"] == pytest.approx(area(scores.genuine, scores.impostor))


def test_a_threshold_from_elsewhere_is_told_with_the_rates_it_has_here():
    told = verification(random_scores(), "room", FaceProtocol(resamples=100), threshold=0.0).transferred
    scores = random_scores()
    assert told["false_accepts"] == pytest.approx((scores.impostor > 0).mean())
    assert told["true_accepts"] == pytest.approx((scores.genuine > 0).mean())


def test_ten_folds_choose_the_threshold_elsewhere():
    score, same = np.array([0.9, 0.8, 0.2, 0.1]), np.array([True, False, True, False])
    accuracy, deviation = ten_fold(score, same, np.array([0, 0, 1, 1]))
    # of fold 1 the best threshold is 0.15, where both of fold 0 are accepted; of fold 0 it is 0.85
    assert (accuracy, deviation) == (0.5, 0.0)
    assert best_threshold(score[:2], same[:2]) == pytest.approx(0.85)
    perfect = Scores(np.eye(20), np.arange(20), np.arange(20))
    assert ten_fold_of(perfect) == (1.0, 0.0)
    told = verification(perfect, "room", FaceProtocol(resamples=100))
    assert told.ten_fold == {"accuracy": 1.0, "deviation": 0.0} and "accuracy 1.000" in str(told)
    few = Scores(np.eye(3), np.arange(3), np.arange(3))
    assert verification(few, "room", FaceProtocol(resamples=100)).ten_fold == {}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: tar_at_far(GENUINE, np.array([]), 0.1), "no impostor pairs"),
        (lambda: tar_at_far(np.array([np.nan]), IMPOSTOR, 0.1), "not a number"),
        (lambda: tar_at_far(GENUINE, IMPOSTOR, 1.0), "got 1.0"),
        (lambda: cosines(np.zeros((1, 2)), np.eye(2)), "probe 0 is not finite, or 0"),
        (lambda: Scores(np.eye(2), np.arange(2), np.zeros(2)), "two gallery images"),
        (lambda: Scores(np.eye(2), np.arange(3), np.arange(2)), "3 probes against 2"),
        (lambda: FaceProtocol(resamples=5), "at least 100 resamples, got 5"),
        (lambda: ten_fold(GENUINE, GENUINE > 0.5, np.zeros(4)), "there are 1"),
    ],
)
def test_what_can_not_be_measured_is_refused(make, words):
    with pytest.raises((DataError, ConfigError), match=words):
        make()
