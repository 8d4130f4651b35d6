"""What is said of the languages follows from the numbers, whoever is ahead."""

import numpy as np
import torch

from fastadapt.data.passages import Streams
from fastadapt.nets import Decoder
from fastadapt.showcases.language_told import sentence, thirds
from fastadapt.showcases.reading import COUNTED, lead
from fastadapt.showcases.texts import Pieces
from fastadapt.showcases.writing import surprise, written


def row(name, learned, values):
    means = [sum(column) / len(column) for column in zip(*values, strict=True)]
    chosen = [{"net": name, "rule": "Adam 0.003", "score": mean} for mean in means]
    return {"name": name, "learned": learned, "values": values, "mean": means, "chosen": chosen}


def read(name, learned, values, mean):
    return {"name": name, "learned": learned, "values": values, "whole": sum(values) / len(values), "mean": mean}


def record(ours):
    return {
        "steps": [0, 1, 5],
        "headline": 5,
        "page": 1024,
        "lower is better": True,
        "starts": [row("pretrained", False, [[4, 3.5, 3.3], [4, 3.7, 3.4], [4, 3.6, 3.5]]), row("FOMAML", True, ours)],
        "languages": {"names": ["a", "b", "c"], "nearest": [0.7, 0.1, 0.4]},
        "n-grams": {"1024": {"mean": 3.5}},
        "reading on": {
            "characters": 256,
            "chunks": 3,
            "rows": [
                read("frozen", False, [4.0, 4.2, 4.1], [4.1, 4.1, 4.1]),
                read("TTT", True, [3.4, 3.6, 3.5], [4.0, 3.4, 3.1]),
                read(COUNTED, False, [3.6, 3.7, 3.5], [5.0, 3.5, 3.0]),
            ],
        },
    }


def test_it_is_said_where_the_start_is_ahead_and_where_counts_are():
    told = sentence(record([[4.1, 3.7, 3.2], [4.1, 3.8, 3.3], [4.1, 3.6, 3.4]]))
    assert "at 3.30 bits a character after 5 steps, the best rival (pretrained) at 3.40 after 5" in told
    assert "a gain of +0.100 ± 0.000; after the 5 steps that it was trained for it is +0.100 ± 0.000" in told
    assert "of 0, 1 and 5 steps it is ahead after 5, beyond its interval after 5; counts of the same page have" in told
    assert (
        "TTT has 3.50, +0.100" in told
        and "(n-grams on line); counts on line are ahead of it from character 513" in told
    )
    lost = sentence(record([[4.1, 3.7, 3.4], [4.1, 3.8, 3.5], [4.1, 3.7, 3.5]]))
    assert "a rival is level or ahead after each of 0, 1 and 5 steps" in lost and "a gain of -0.067" in lost


def test_each_is_judged_after_the_steps_that_serve_it_best():
    turned = record([[3.9, 3.2, 3.6], [3.9, 3.3, 3.6], [3.9, 3.1, 3.6]])
    told = sentence(turned)
    assert "at 3.20 bits a character after 1 steps, the best rival (pretrained) at 3.40 after 5" in told
    assert "a gain of +0.200" in told and "it is -0.200" in told and "ahead after 0 and 1, beyond" in told


def test_thirds_begin_with_the_farthest_language():
    found = thirds(record([[4.1, 3.7, 3.2], [4.1, 3.8, 3.1], [4.1, 3.6, 3.5]]))["FOMAML"]
    assert [part["nearest"] for part in found] == [[0.1, 0.1], [0.4, 0.4], [0.7, 0.7]]
    assert [part["gain"] for part in found] == [0.3, 0.0, 0.1]
    assert lead(record([[4, 4, 4]] * 3)["reading on"], "TTT")[0] == COUNTED


def test_writing_goes_on_and_surprise_is_that_of_the_chances():
    net, text = Decoder(5, context=8, width=8, depth=1, heads=2), torch.randint(0, 5, (40,))
    first, again = (written(net, text[:3], 10, 8, 0.7, seed=1) for _ in range(2))
    assert torch.equal(first, again) and len(first) == 10 and int(first.max()) < 5
    bits = surprise(net, text, 20, 23, 8)
    want = [
        -net(text[i - 8 : i][None])[0, :, -1].log_softmax(0)[text[i]] / torch.log(torch.tensor(2.0))
        for i in (20, 21, 22)
    ]
    torch.testing.assert_close(bits, torch.stack(want).detach())


def test_pieces_come_from_anywhere():
    task = Pieces([torch.arange(50), torch.arange(100, 150)], count=64, length=8).sample(np.random.default_rng(0))
    assert {int(x) >= 100 for x in task.support[0][:, 0]} == {True, False}
    assert len(Streams([torch.arange(65)], 4, 2, 8).beginnings([0])) == 1
