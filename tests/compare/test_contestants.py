"""Who takes part: any preset by name, all on the same tasks."""

from dataclasses import fields

import pytest

from fastadapt.compare.contestants import _OF_TRAINING, TASKS, contestants, methods_on
from fastadapt.errors import ConfigError
from fastadapt.runs.presets import PRESETS


@pytest.mark.parametrize("tasks", TASKS)
def test_every_preset_on_these_tasks_can_take_part_and_is_tested_alike(tasks):
    every = contestants(["*"], tasks, count=50, seed=3)
    assert [c.name for c in every] == methods_on(tasks)
    assert len(every) >= 5
    common = [field.name for field in fields(TASKS[tasks]) if field.name not in _OF_TRAINING]
    for contestant in every:
        config, preset = contestant.config, PRESETS[contestant.preset][1]
        assert {name: getattr(config.data, name) for name in common} == {
            name: getattr(TASKS[tasks], name) for name in common
        }
        assert (config.protocol.tasks, config.protocol.seed, config.protocol.split) == (50, 1, "test")
        headline = preset.protocol.steps if preset.protocol.report is None else preset.protocol.report
        assert config.protocol.steps == headline
        assert config.training.seed == 3
        # what belongs to the method stays
        assert (config.net, config.method) == (preset.net, preset.method)
        assert config.data.train_shots == preset.data.train_shots


def test_a_preset_by_its_whole_name_takes_part_and_each_once():
    found = contestants(["protonet", "protonet*", "maml-omniglot-noconv-5w1s"], "omniglot-5w1s", count=5)
    assert [c.name for c in found] == ["protonet", "protonet-vit", "maml-omniglot-noconv-5w1s"]


@pytest.mark.parametrize(
    ("name", "tasks", "words"),
    [
        ("protnet", "omniglot-5w1s", "there is no method 'protnet' on omniglot-5w1s; near are protonet"),
        ("protonet", "omniglot-7w1s", "there are no tasks 'omniglot-7w1s'; there are omniglot-5w1s"),
        ("maml-sinusoid", "omniglot-5w1s", "maml-sinusoid trains on Sinusoid, not on omniglot-5w1s"),
        ("siamese", "mini-imagenet-5w1s", "there is no method 'siamese' on mini-imagenet-5w1s"),
    ],
)
def test_a_name_that_fits_nothing_is_refused_with_what_there_is(name, tasks, words):
    with pytest.raises(ConfigError, match=words):
        contestants([name], tasks, count=5)
