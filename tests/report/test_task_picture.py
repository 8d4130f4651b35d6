import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fastadapt import MAML, SGD, CrossEntropy, Task
from fastadapt.data.images.classes import ClassImages
from fastadapt.errors import TaskError
from fastadapt.report import draw_task
from fastadapt.report.classes import pictures


def _source(ways=5, shots=1, queries=2, *, classes=24, channels=0, **settings):
    rng = np.random.default_rng(0)
    shape = (classes * 12, 10, 10) + ((channels,) if channels else ())
    images = np.full(shape, 255, dtype=np.uint8)
    images[rng.random(shape) < 0.2] = 0
    names = tuple(f"class {i}" for i in range(classes))
    return ClassImages(
        torch.from_numpy(images),
        np.arange(classes).repeat(12),
        names,
        ways=ways,
        shots=shots,
        queries=queries,
        **settings,
    )


def _learner(ways, channels=1):
    return MAML(nn.Sequential(nn.Flatten(), nn.Linear(100 * channels, ways)), CrossEntropy(), rule=SGD(0.1), steps=3)


def _drawn(path):
    picture = np.asarray(Image.open(path).convert("L"))
    assert min(picture.shape) >= 400
    assert (picture < 100).mean() > 0.005
    return picture


@pytest.mark.parametrize(("ways", "shots", "queries"), [(2, 1, 1), (5, 1, 2), (5, 6, 6), (20, 1, 1), (12, 2, 1)])
def test_tasks_of_many_sizes_are_drawn(tmp_path, ways, shots, queries):
    source = _source(ways, shots, queries)
    path = draw_task(_learner(ways), source, tmp_path / "a.png")
    assert path.read_bytes()
    _drawn(path)


def test_the_same_task_gives_the_same_bytes(tmp_path):
    learner = _learner(5)
    one, two = (draw_task(learner, _source(), tmp_path / f"{i}.png", index=3).read_bytes() for i in range(2))
    assert one == two


@pytest.mark.parametrize("invert", [False, True])
def test_ink_is_dark_on_white(invert):
    source = _source(invert=invert, mean=(0.3,), std=(0.5,))
    x = source.sample(np.random.default_rng(1)).support[0]
    drawn = pictures(x, source, None)
    assert drawn.shape == (5, 10, 10, 3)
    assert drawn.mean() > 0.7
    assert drawn.min() == pytest.approx(0, abs=1e-6) and drawn.max() == pytest.approx(1)


def test_ink_is_found_where_the_source_says_nothing():
    paper_one = torch.ones(3, 1, 10, 10)
    paper_one[:, :, 5] = 0
    for x in (paper_one, 1 - paper_one):
        assert np.allclose(pictures(x, None, None), paper_one.permute(0, 2, 3, 1).expand(-1, -1, -1, 3))


def test_colours_stay_as_they_are(tmp_path):
    source = _source(channels=3)
    x = source.sample(np.random.default_rng(1)).support[0]
    assert np.allclose(pictures(x, source, None), x.permute(0, 2, 3, 1))
    _drawn(draw_task(_learner(5, 3), source, tmp_path / "a.png"))


def test_answers_that_are_not_finite_are_drawn(tmp_path):
    learner = _learner(5)
    with torch.no_grad():
        next(learner.parameters()).fill_(float("nan"))
    _drawn(draw_task(learner, _source(), tmp_path / "a.png", class_names=["a", "b", "a long name indeed", "d", "e"]))


def test_what_can_not_be_drawn_is_refused(tmp_path):
    with pytest.raises(TaskError, match="queries"):
        draw_task(_learner(5), _source(queries=0), tmp_path / "a.png")
    points = Task((torch.zeros(5, 1), torch.zeros(5, 1)), (torch.zeros(5, 1), torch.zeros(5, 1)))
    with pytest.raises(TaskError, match="images"):
        draw_task(_learner(5), lambda rng: points, tmp_path / "a.png")
