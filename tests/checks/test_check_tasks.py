"""A source that breaks its rules is found before a training, and one that keeps them is let alone."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastadapt as fa
from fastadapt.data.images.classes import ClassImages
from fastadapt.errors import TaskError


def floats(array):
    return torch.as_tensor(np.asarray(array), dtype=torch.float32)


def clusters(rng, ways=3, shots=4, queries=5, label=lambda y: y):
    middle = rng.normal(size=(ways, 4)) * 3

    def batch(n):
        y = np.repeat(np.arange(ways), n)
        return floats(middle[y] + rng.normal(size=(len(y), 4))), label(torch.from_numpy(y))

    return fa.Task(batch(shots), batch(queries))


def changed(change):
    """Return a source whose tasks are changed: `change(support, query)` returns both."""

    def sample(rng):
        task = clusters(rng)
        return fa.Task(*change(list(task.support), list(task.query)))

    return sample


FIXED = clusters(np.random.default_rng(0))
OTHER = np.random.default_rng(5)
COUNTER = itertools.count()
POOL = np.random.default_rng(1).normal(size=(60, 4))


class Unlike:
    """Draw one by one otherwise than at once."""

    def sample(self, rng):
        return clusters(rng)

    def sample_batch(self, rngs):
        return fa.group_by_shape([clusters(np.random.default_rng(int(rng.integers(99)))) for rng in rngs])[0]


def spoil(support, query):
    support[0][3, 1] = np.nan
    return support, query


def from_pool(rng, rows=range(60)):
    drawn = rng.permutation(np.asarray(rows))[:20]
    x, y = floats(POOL[drawn]), torch.from_numpy(drawn % 2)
    return fa.Task((x[:10], y[:10]), (x[10:], y[10:]))


ERRORS = {
    "constant": (lambda rng: FIXED, "all 20 tasks of 'train' are the same: sample"),
    "seeded anew": (lambda rng: clusters(np.random.default_rng(3)), "all 20 tasks .* are the same"),
    "numpy's generator": (lambda rng: clusters(np.random), "is another one when it is drawn again"),
    "torch's generator": (
        lambda rng: fa.Task(FIXED.support, (torch.randn(5, 4), torch.arange(5))),
        "is another one when it is drawn again",
    ),
    "a generator of its own": (lambda rng: clusters(OTHER), "is another one when it is drawn again"),
    "an iterator": (lambda rng: clusters(np.random.default_rng(next(COUNTER))), "another one when it is drawn again"),
    "one by one and at once": (Unlike(), r"differs between sample\(rng\) and sample_batch"),
    "not finite": (changed(spoil), "task 0, support x, row 3: nan"),
    "a label too few": (changed(lambda s, q: ((s[0], s[1][1:]), q)), "support: x has 12 rows and y has 11"),
    "a label too many": (changed(lambda s, q: (s, (q[0][1:], q[1]))), "query: x has 14 rows and y has 15"),
    "no task": (lambda rng: (1, 2), "must return a fastadapt.Task"),
    "an exception": (lambda rng: {}["x"], "raises KeyError"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_breaks_a_training_is_an_error(name):
    source, words = ERRORS[name]
    with pytest.raises(TaskError, match=words):
        fa.check_tasks(source)


def few(rng):
    return clusters(np.random.default_rng(int(rng.integers(5))))


def one_class(label):
    def sample(rng):
        x, y = clusters(rng).support
        return fa.Task((x[:4], label(y[:4])), (x, label(y)))

    return sample


def sampled_with_replacement(rng):
    task = clusters(rng)
    x, y = (torch.cat(parts) for parts in zip(task.support, task.query, strict=True))
    rows = torch.from_numpy(rng.permutation(len(x))[:20])
    return fa.Task((x[rows[:12]], y[rows[:12]]), (x[rows[8:]], y[rows[8:]]))


NOTES = {
    "few tasks": (few, "15 of 20 tasks of 'train' repeat an earlier one"),
    "the same support": (changed(lambda s, q: (FIXED.support, q)), "the support sets of all 20 tasks"),
    "one class": (one_class(lambda y: y), "every support label is the same"),
    "one class, one-hot": (one_class(lambda y: F.one_hot(y, 3).float()), "every support label is the same"),
    "one class, bytes": (one_class(lambda y: y.to(torch.uint8)), "every support label is the same"),
    "an unseen class": (
        changed(lambda s, q: ((s[0][:8], s[1][:8]), q)),
        r"the query has a class that the support set lacks \(task 0: 2\)",
    ),
    "counted from 1": (lambda rng: clusters(rng, label=lambda y: y + 1), r"no label is 0, they are 1..3; .* y - 1"),
    "from 1, int32": (lambda rng: clusters(rng, label=lambda y: (y + 1).int()), "no label is 0"),
    "queries from the support": (
        changed(lambda s, q: (s, (torch.cat((s[0][:3], q[0][3:])), q[1]))),
        r"60 of 300 query samples are also in the support set .*task 0: query row 0 is support row 0",
    ),
    "with replacement": (sampled_with_replacement, "query samples are also in the support set of their task"),
    "query is support": (changed(lambda s, q: (s, s)), "240 of 240 query samples"),
    "blank": (changed(lambda s, q: ((torch.zeros_like(s[0]), s[1]), q)), "all support inputs are equal"),
}


@pytest.mark.parametrize("name", NOTES)
def test_what_may_be_meant_is_a_note(name):
    source, words = NOTES[name]
    notes = fa.check_tasks(source)
    assert len([note for note in notes if __import__("re").search(words, note)]) == 1, notes


def test_good_sources_are_let_alone():
    images = torch.randint(0, 256, (60, 8, 8), dtype=torch.uint8)
    classes = ClassImages(images, np.arange(60) // 6, tuple("abcdefghij"), ways=3, shots=2, queries=2)
    steps = [
        fa.Sinusoid(),
        clusters,
        classes,
        lambda rng: clusters(rng, label=lambda y: F.one_hot(y, 3).float()),
        lambda rng: clusters(rng, shots=int(rng.integers(1, 4))),
        lambda rng: fa.Task({"x": floats(rng.normal(size=3))}, {"x": floats(rng.normal(size=2))}),
        # values of few kinds repeat all over, and that is no leak
        lambda rng: fa.Task(*((torch.from_numpy(rng.integers(0, 2, (12, 2))).float(), torch.arange(12) % 2),) * 1,
                            (torch.from_numpy(rng.integers(0, 2, (12, 2))).float(), torch.arange(12) % 2)),
    ]  # fmt: skip
    for source in steps:
        assert fa.check_tasks(source) == []


def test_whole_numbers_that_are_amounts_are_no_classes(caplog):
    def counts(rng):
        y = torch.from_numpy(rng.integers(1, 40, 20))[:, None]
        x = y + torch.from_numpy(rng.normal(size=(20, 1)))
        return fa.Task((x[:10].float(), y[:10, 0]), (x[10:].float(), y[10:, 0]))

    learner = fa.MAML(nn.Sequential(nn.Linear(1, 1), nn.Flatten(0)), rule=fa.SGD(1e-4))
    assert fa.check_tasks(counts, learner=learner) == []
    fa.meta_train(learner, counts, fa.Training(steps=1, meta_batch=4), quiet=True)
    assert "a note on the tasks" not in caplog.text


def test_the_global_generators_are_left_as_they_were():
    torch.manual_seed(3), np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    with pytest.raises(TaskError):
        fa.check_tasks(lambda rng: clusters(np.random))
    assert torch.equal(torch.get_rng_state(), before[0]) and (np.random.get_state()[1] == before[1]).all()


def test_samples_of_two_splits_are_noted():
    [note] = fa.check_tasks(from_pool, against={"test": from_pool})
    assert note.startswith("400 of 400 samples of 'train' are also in tasks of 'test' (support row 0 of task 0")
    assert (
        fa.check_tasks(lambda r: from_pool(r, range(30)), against={"test": lambda r: from_pool(r, range(30, 60))}) == []
    )
    some = fa.check_tasks(lambda r: from_pool(r, range(33)), against={"val": lambda r: from_pool(r, range(27, 60))})
    assert len(some) == 1 and "in tasks of 'val'" in some[0]


def test_a_class_of_two_splits_is_an_error():
    images = torch.randint(0, 256, (60, 8, 8), dtype=torch.uint8)
    every = ClassImages(images, np.arange(60) // 6, tuple("abcdefghij"), ways=3, shots=1, queries=2)
    with pytest.raises(TaskError, match="1 classes are in 'train' and in 'test', the first is 'e'"):
        fa.check_tasks(every.subset(list("abcde")), against={"test": every.subset(list("efghij"))})
    assert fa.check_tasks(every.subset(list("abcde")), against={"test": every.subset(list("fghij"))}) == []


def test_labels_that_do_not_fit_a_learner_are_an_error():
    fits, short = (fa.MAML(nn.Linear(4, n), fa.cross_entropy, rule=fa.SGD(0.1)) for n in (3, 2))
    assert fa.check_tasks(clusters, learner=fits) == []
    with pytest.raises(TaskError, match="the label is 2, and the classes of an output of shape"):
        fa.check_tasks(clusters, learner=short)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (lambda rng: FIXED, "all 8 tasks"),
        (few, "repeat an earlier one"),
        (one_class(lambda y: y), "every support label is the same"),
        (changed(lambda s, q: (s, s)), "query samples are also in the support set"),
        (lambda rng: clusters(np.random), "is another one when it is drawn again"),
    ],
)
def test_a_training_notes_it_and_goes_on(source, words, caplog):
    learner = fa.MAML(nn.Linear(4, 3), fa.cross_entropy, rule=fa.SGD(0.1), route="loop")
    trained = fa.meta_train(learner, source, fa.Training(steps=2, meta_batch=9), quiet=True)
    assert trained.step == 2
    told = [record.getMessage() for record in caplog.records if "a note on the tasks" in record.getMessage()]
    assert len([text for text in told if words in text]) == 1


def test_a_training_is_not_changed_by_the_look(monkeypatch):
    def sample(rng):  # draws from the global generator, and so would see a draw more
        return clusters(np.random)

    def weights():
        np.random.seed(0), torch.manual_seed(0)
        learner = fa.MAML(nn.Linear(4, 3), fa.cross_entropy, rule=fa.SGD(0.1), route="loop")
        fa.meta_train(learner, sample, fa.Training(steps=3, meta_batch=3), quiet=True)
        return learner.model.weight.detach()

    with_it = weights()
    monkeypatch.setattr("fastadapt.training.train.first_look", lambda *given: [])
    assert torch.equal(with_it, weights())
