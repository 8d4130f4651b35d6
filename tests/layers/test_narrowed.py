"""A run used for fewer classes than it has outputs."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from fastadapt import load_predictor
from fastadapt.commands.adapt import AdaptSettings, run
from fastadapt.errors import ConfigError, DataError
from fastadapt.runs.config import Conv4Net, MAMLMethod, OmniglotData, ReptileMethod, RunConfig
from fastadapt.runs.run_files import LoadedRun


def loaded(method: MAMLMethod | ReptileMethod, fewest: int | None = 3) -> LoadedRun:
    torch.manual_seed(0)
    config = RunConfig(OmniglotData(ways=6, fewest_ways=fewest), Conv4Net(width=4), method)
    return LoadedRun(config.build().eval(), config, "wide", 7)


@pytest.mark.parametrize("method", [MAMLMethod(norm="support"), ReptileMethod(inner_state="mean")], ids=type)
def test_the_head_keeps_its_first_outputs_and_all_else_stays(method) -> None:
    wide = loaded(method)
    narrow = wide.narrowed(4)
    assert (narrow.ways, narrow.step, narrow.fewest_ways) == (4, 7, 4)
    before, after = wide.learner.state_dict(), narrow.learner.state_dict()
    assert before.keys() == after.keys()
    cut = {name for name in after if after[name].shape != before[name].shape}
    assert {"model.head.weight", "model.head.bias"} <= cut
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name][:4] if name in cut else before[name])
    x = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        assert torch.allclose(narrow.learner.model(x), wide.learner.model(x)[:, :4])
    assert wide.narrowed(6) is wide


@pytest.mark.parametrize(("fewest", "ways", "words"), [(3, 2, "3 to 6"), (3, 7, "3 to 6"), (None, 5, "exactly 6")])
def test_other_numbers_of_classes_are_refused(fewest, ways, words) -> None:
    with pytest.raises(ConfigError, match=f"wide is made for {words} classes, not for {ways}"):
        loaded(MAMLMethod(), fewest).narrowed(ways)


@pytest.mark.parametrize("fewest", [1, 7])
def test_fewest_ways_has_a_range(fewest) -> None:
    with pytest.raises(ConfigError, match=rf"data.fewest_ways must be 2\.\.6 \(data.ways\), got {fewest}"):
        OmniglotData(ways=6, fewest_ways=fewest)


def drawings(folder: Path, classes: int) -> Path:
    for i in range(classes):
        (folder / f"class{i}").mkdir(parents=True)
        Image.linear_gradient("L").rotate(30 * i).resize((40, 40)).save(folder / f"class{i}" / "a.png")
    return folder


def test_adapt_takes_the_number_of_folders_there_are(tmp_path, capsys) -> None:
    run(AdaptSettings(run=Path("wide"), data=drawings(tmp_path / "four", 4), out=tmp_path / "out"), lambda _: wide)
    assert "4 classes" in capsys.readouterr().out
    assert load_predictor(tmp_path / "out")(torch.rand(2, 1, 28, 28)).shape == (2, 4)
    for count, words in ((2, "needs at least 3"), (7, "needs at most 6")):
        settings = AdaptSettings(run=Path("wide"), data=drawings(tmp_path / str(count), count), out=tmp_path / "no")
        with pytest.raises(DataError, match=words):
            run(settings, lambda _: wide)


wide = loaded(MAMLMethod(norm="support", test_steps=2))
