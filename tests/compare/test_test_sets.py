"""Further test tasks: other images, brought to the pixels that methods were trained on."""

import numpy as np
import pytest
import torch

from drawn_folder import make_folder
from fastadapt.compare.test_sets import brought_to, further_tests
from fastadapt.data.settings import MiniImageNetData, OmniglotData
from fastadapt.errors import ConfigError, DataError


def test_colours_become_grey_and_grey_becomes_colour_as_pillow_has_it():
    from PIL import Image

    colours = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3), dtype=np.uint8)
    grey = brought_to(torch.from_numpy(colours), 12, 1)
    for ours, pixels in zip(grey, colours, strict=True):
        theirs = np.asarray(Image.fromarray(pixels).convert("L")).astype(int)
        assert np.abs(ours.numpy().astype(int) - theirs).max() <= 1
    wide = brought_to(grey, 12, 3)
    assert wide.shape == (2, 12, 12, 3)
    assert (wide == grey.unsqueeze(3)).all()
    assert brought_to(grey, 12, 1) is grey


def test_a_smaller_image_is_the_mean_of_what_it_covers():
    halves = torch.zeros(1, 8, 8, dtype=torch.uint8)
    halves[:, :, 4:] = 200
    small = brought_to(halves, 2, 1)
    assert small[0, 0, 0] < 40 and small[0, 0, 1] > 160
    assert (small[0, 0] == small[0, 1]).all()


@pytest.mark.long  # scikit-learn takes its time to be imported
def test_digits_are_ink_on_paper_as_characters_are():
    pytest.importorskip("sklearn")
    ((words, tasks),) = further_tests(["digits"], OmniglotData(ways=5, shots=1, queries=3)).values()
    x, y = tasks.sample(np.random.default_rng(0)).support
    assert "digits" in words and x.shape == (5, 1, 28, 28) and y.tolist() == [0, 1, 2, 3, 4]
    corners = x[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert float(corners.max()) < 0.1 < float(x.mean()) < 0.6  # paper is 0, ink is 1


def test_a_folder_has_the_sizes_of_the_tasks(tmp_path):
    folder = make_folder(tmp_path / "signs", classes=5, images=3, side=90)
    ((words, tasks),) = further_tests([str(folder)], MiniImageNetData(ways=4, shots=1, queries=2), None).values()
    assert words == "the 5 classes of signs"
    assert tasks.sample(np.random.default_rng(0)).query[0].shape == (8, 3, 84, 84)


def test_what_can_not_be_tested_on_is_refused_in_a_sentence(tmp_path):
    data = OmniglotData(ways=5, queries=15)
    with pytest.raises(
        ConfigError, match="there are no images 'moon' to test on; there are omniglot, mini-imagenet, digits"
    ):
        further_tests(["moon"], data)
    folder = make_folder(tmp_path / "few", classes=5, images=3)
    with pytest.raises(DataError, match="few can't be tested on: "):
        further_tests([str(folder)], data)
    with pytest.raises(ConfigError, match="few is named twice"):
        further_tests([str(folder), str(folder)], OmniglotData(ways=5, queries=2))
