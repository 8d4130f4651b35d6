"""The published runs never change in silence: a digest of each is kept beside this file."""

import hashlib
import json
import sys
from pathlib import Path

import pytest

from fastadapt.errors import ConfigError
from fastadapt.evaluation import Protocol
from fastadapt.published import family, memory, metric
from fastadapt.published.experiment import Claim, Experiment, Measurement
from fastadapt.published.registry import EXPERIMENTS, find
from fastadapt.runs.presets import PRESETS

FROZEN = Path(__file__).with_name("frozen.json")


def digest(experiment: Experiment) -> str:
    """Return what a result of this experiment depends on, in 16 letters."""
    measured = [
        [m.name, repr(m.protocol), dict(m.data), repr(m.by), {s: repr(c) for s, c in m.claims.items()}]
        + [[m.ensemble, m.by_instance]] * bool(m.ensemble or m.by_instance)
        for m in experiment.measurements
    ]
    tuned = [experiment.rates, experiment.decays, experiment.tuned_on]
    facts = [experiment.config.to_json(), measured, tuned, dict(experiment.averages or {})]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def test_no_published_run_changed_without_a_new_version() -> None:
    now = {name: [e.version, digest(e)] for name, e in EXPERIMENTS.items()}
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    assert now == frozen, "raise the version of what changed, then run python tests/published/test_experiments.py"


def each(experiment: Experiment):
    """Return a case; the LSTMs of full context embeddings have 70 million weights, which take seconds to draw."""
    large = ("-fce-", "statistician", "cavia-512", "cavia-128", "snail-mini")
    long = any(word in experiment.name for word in large)
    return pytest.param(experiment, id=experiment.name, marks=pytest.mark.long if long else ())


@pytest.mark.parametrize("experiment", [each(e) for e in EXPERIMENTS.values()])
def test_a_published_run_can_be_built_and_says_where_its_numbers_are_from(experiment: Experiment) -> None:
    assert "arXiv:" in experiment.source or "not published" in experiment.source
    assert experiment.version >= 1
    assert experiment.config.build().signature().get("steps", 0) >= 0  # a metric method takes none
    for measurement in experiment.measurements:
        assert measurement.config(experiment.config).protocol is measurement.protocol
        for claim in measurement.claims.values():
            assert "arXiv:" in claim.source
            percent = experiment.config.data.ways is not None
            assert not percent or 0 < claim.value < 1


def test_a_published_run_with_the_name_of_a_preset_trains_like_it() -> None:
    shared = [name for name in EXPERIMENTS if name in PRESETS]
    assert len(shared) > 10
    for name in shared:
        ours, preset = EXPERIMENTS[name].config, PRESETS[name][1]
        assert (ours.data, ours.net, ours.method) == (preset.data, preset.net, preset.method)
        assert ours.training.steps == preset.training.steps


def test_every_row_says_whether_queries_share_statistics_and_how_many_there_are() -> None:
    for experiment in (*metric.EXPERIMENTS, *memory.EXPERIMENTS, *family.EXPERIMENTS):
        data, method = experiment.config.data, experiment.config.method
        counts = {f"{data.queries} quer{'y' if data.queries == 1 else 'ies'}"}  # type: ignore[union-attr]
        counts |= {"as many queries as shots"} if data.queries == data.shots else set()  # type: ignore[union-attr]
        for measurement in experiment.measurements:
            told, shared = measurement.name, (measurement.protocol.norm or method.norm) == "transductive"  # type: ignore[union-attr]
            assert ("not transductive" in told, "transductive" in told) == (not shared, True), experiment.name
            assert measurement.by_instance or any(told.endswith(words) for words in counts), experiment.name


def test_names_are_found_with_stars_and_each_once() -> None:
    assert [e.name for e in find(["maml-sinusoid", "maml-sin*"])] == [
        "maml-sinusoid",
        "maml-sinusoid-k5",
        "maml-sinusoid-circle",
    ]
    with pytest.raises(ConfigError, match=r"no published run 'maml-sinusiod'; near are maml-sinusoid"):
        find(["maml-sinusiod"])


def test_a_claim_needs_its_source_and_a_step_that_is_measured() -> None:
    with pytest.raises(ConfigError, match="needs its source"):
        Claim(0.9)
    with pytest.raises(ConfigError, match=r"must be >= 0, got -0.1"):
        Claim(0.9, -0.1, source="somebody 2017")
    config = EXPERIMENTS["maml-sinusoid"].config
    beyond = Measurement("K=5", Protocol(steps=3), claims={4: Claim(0.9, source="somebody 2017")})
    with pytest.raises(ConfigError, match=r"no step 4 among the measured 0\.\.3"):
        Experiment("x", "x", config, (beyond,), "somebody 2017")
    twice = Measurement("K=5", Protocol(steps=3))
    with pytest.raises(ConfigError, match="names that differ"):
        Experiment("x", "x", config, (twice, twice), "somebody 2017")


if __name__ == "__main__":
    content = {name: [e.version, digest(e)] for name, e in EXPERIMENTS.items()}
    FROZEN.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    sys.exit(print(FROZEN.name))
