"""The two commands from a user's files to answers, with small learners that know next to nothing."""

import json
import shutil

import pytest
import torch
from PIL import Image, ImageDraw

from fastadapt import load_predictor
from fastadapt.commands import adapt, predict
from fastadapt.commands.adapt import AdaptSettings
from fastadapt.commands.predict import PredictSettings
from fastadapt.data.images.images import ImageRecipe
from fastadapt.errors import CheckpointError, ConfigError, DataError, DivergenceError, FastadaptError
from fastadapt.runs.config import (
    Conv4Net,
    MAMLMethod,
    MiniImageNetData,
    MLPNet,
    OmniglotData,
    ReptileMethod,
    RunConfig,
    SinusoidData,
)
from fastadapt.runs.run_files import LoadedRun, export_model
from fastadapt.training.checkpoint import Checkpoint, save_checkpoint

NAMES = ("cross", "ring", "bars")


def draw(path, name, side=105, shift=0):
    """Draw one of three signs by hand, black on white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", (side, side), 255)
    pen, low, high, width = ImageDraw.Draw(image), side // 6 + shift, side * 5 // 6 + shift, side // 12
    if name == "cross":
        pen.line((low, low, high, high), 0, width)
        pen.line((low, high, high, low), 0, width)
    elif name == "ring":
        pen.ellipse((low, low, high, high), None, 0, width)
    else:
        for x in (low, (low + high) // 2, high):
            pen.line((x, low, x, high), 0, width)
    image.save(path)
    return path


def loaded(config, name="trained"):
    torch.manual_seed(0)
    return LoadedRun(config.build().eval(), config, name, 0)


def image_run(**method):
    method = {"inner_lr": 0.4, "steps": 1, "test_steps": 8, "inner_rule": "sgd", **method}
    return loaded(RunConfig(OmniglotData(ways=3, shots=1), Conv4Net(width=8, affine="both"), MAMLMethod(**method)))


def point_run(**method):
    method = {
        "inner_lr": 0.05,
        "test_steps": 20,
        "inner_state": "reset",
        "inner_rule": "sgd",
        "test_batch": None,
        **method,
    }
    net = MLPNet(hidden=(16,), activation="tanh", init_std=None)
    return loaded(RunConfig(SinusoidData(shots=4), net, ReptileMethod(**method)))


@pytest.fixture
def drawings(tmp_path):
    for name in NAMES:
        draw(tmp_path / "drawings" / name / "1.png", name)
        draw(tmp_path / "drawings" / name / "2.png", name, side=200, shift=5)
    return tmp_path / "drawings"


@pytest.fixture
def points(tmp_path):
    (tmp_path / "points.csv").write_text("x,y\n-1,-0.8\n0,0.1\n1,0.8\n2,0.9\n")
    return tmp_path / "points.csv"


def do_adapt(trained, data, out, **settings):
    return adapt.run(AdaptSettings(run=data, data=data, out=out, **settings), load=lambda path: trained)


def do_predict(folder, *files, **settings):
    return predict.run(PredictSettings(predictor=folder, files=tuple(files), **settings))


# ---- images --------------------------------------------------------------------------------------


def test_from_drawings_to_labels(drawings, tmp_path, capsys):
    out = tmp_path / "adapted"
    assert do_adapt(image_run(), drawings, out) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "adapted trained to 3 classes (bars, cross, ring) from 2 images each in 8 steps",
        "on these samples: 6 of 6 right",
        "batch norm, support+query: every sample is answered alone beside your samples, whatever else is asked",
        f"wrote {out}",
    ]
    files = [draw(tmp_path / "new" / f"{name}.png", name, side=150, shift=-6) for name in NAMES]
    assert do_predict(out, *files) == 0
    header, *rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert header == ["file", "label", "probability", "runner-up"]
    assert [row[:2] for row in rows] == [[str(path), path.stem] for path in files]
    assert all(0.3 < float(row[2]) <= 1 and row[3].endswith(")") for row in rows)


def test_json_and_python_agree_and_an_answer_stands_alone(drawings, tmp_path, capsys):
    out = tmp_path / "adapted"
    do_adapt(image_run(), drawings, out)
    files = sorted(drawings.glob("*/*.png"))
    capsys.readouterr()
    do_predict(out, *files, json=True)
    together = json.loads(capsys.readouterr().out)
    do_predict(out, files[3], json=True)
    assert json.loads(capsys.readouterr().out) == together[3:4]
    predictor = load_predictor(out)
    x = ImageRecipe(**predictor.details["input"]).read(files[3])
    with torch.no_grad():
        p = predictor(x.unsqueeze(0)).double().softmax(-1)[0]
    assert predictor.labels == sorted(NAMES)
    assert together[3]["probabilities"] == dict(
        sorted(zip(predictor.labels, p.tolist(), strict=True), key=lambda pair: -pair[1])
    )
    assert together[3]["probability"] == max(p.tolist()) and together[3]["file"] == str(files[3])
    assert sum(together[3]["probabilities"].values()) == pytest.approx(1)


def test_a_run_on_photographs_reads_colours_as_its_training_did(tmp_path, capsys):
    data = MiniImageNetData(ways=3, normalise="imagenet")
    trained = loaded(
        RunConfig(data, Conv4Net(width=8, down="max", affine="both"), MAMLMethod(test_steps=5, inner_lr=0.05))
    )
    for name, colour in (("blue", (20, 30, 200)), ("green", (30, 180, 40)), ("red", (210, 20, 30))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i, side in enumerate((84, 130)):
            Image.new("RGB", (side, side), tuple(v + 9 * i for v in colour)).save(
                tmp_path / "photos" / name / f"{i}.png"
            )
    do_adapt(trained, tmp_path / "photos", tmp_path / "adapted")
    assert "on these samples: 6 of 6 right" in capsys.readouterr().out
    predictor = load_predictor(tmp_path / "adapted")
    assert predictor.details["input"]["normalise"] == "imagenet" and predictor.details["input"]["channels"] == 3
    x = ImageRecipe(**predictor.details["input"]).read(tmp_path / "photos" / "red" / "0.png")
    assert x.shape == (3, 84, 84) and float(x[0, 0, 0]) == pytest.approx((210 / 255 - 0.485) / 0.229, abs=1e-5)
    do_predict(tmp_path / "adapted", tmp_path / "photos" / "red" / "1.png")
    assert capsys.readouterr().out.splitlines()[1].split("\t")[1] == "red"


def test_settings_are_kept_in_the_predictor(drawings, tmp_path, capsys):
    do_adapt(image_run(), drawings, tmp_path / "a", steps=1, norm="support", shots=1, fit="pad")
    said = capsys.readouterr().out
    assert "from 1 image each in 1 step\n" in said and "batch norm, support: " in said and "note:" not in said
    details = load_predictor(tmp_path / "a").details
    assert details["input"] == {
        "size": 28, "channels": 1, "invert": True, "resize": "lanczos", "fit": "pad", "kind": "image",
        "normalise": "none",
    }  # fmt: skip
    assert details["run"] == "trained" and details["steps"] == 1 and details["norm"] == "support"
    assert details["support"] == {"bars": 1, "cross": 1, "ring": 1}
    wide = tmp_path / "wide.png"
    Image.new("L", (90, 60), 255).save(wide)
    do_predict(tmp_path / "a", wide)
    with pytest.raises(
        DataError, match=r"wide.png is 90x60 pixels and the model takes square images; fill it up with --fit"
    ):
        do_predict(tmp_path / "a", wide, fit="refuse")


def test_fewer_images_than_trained_for_is_told(drawings, tmp_path, capsys):
    trained = loaded(RunConfig(OmniglotData(ways=3, shots=5), Conv4Net(width=4), MAMLMethod()))
    (drawings / "ring" / "2.png").unlink()
    do_adapt(trained, drawings, tmp_path / "a")
    said = capsys.readouterr().out
    assert "from 1 to 2 images each" in said
    assert "note: the run was trained for 5 images of each class; fewer are in bars, cross, ring\n" in said


@pytest.mark.parametrize("norm", ["transductive", "support", "support+query", "running"])
def test_every_norm_is_said_in_words(drawings, tmp_path, capsys, norm):
    trained = image_run(norm=norm) if norm == "running" else image_run()
    do_adapt(trained, drawings, tmp_path / "a", norm=None if norm == "running" else norm)
    assert f"batch norm, {norm}: {adapt.NORM_IN_WORDS[norm]}\n" in capsys.readouterr().out
    do_predict(tmp_path / "a", *sorted(drawings.glob("*/*.png")))
    assert len(capsys.readouterr().out.splitlines()) == 7


def test_a_table_at_a_terminal_shows_names_as_they_are(drawings, tmp_path, capsys, monkeypatch):
    (drawings / "ring").rename(drawings / "[red]ring")
    do_adapt(image_run(), drawings, tmp_path / "a")
    capsys.readouterr()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "250")
    do_predict(tmp_path / "a", drawings / "[red]ring" / "1.png")
    said = capsys.readouterr().out
    assert "runner-up" in said and "[red]ring" in said and "\t" not in said


# ---- points --------------------------------------------------------------------------------------


def test_from_points_to_values(points, tmp_path, capsys):
    out = tmp_path / "adapted"
    assert do_adapt(point_run(), points, out) == 0
    first, fit, last = capsys.readouterr().out.splitlines()
    assert first == "adapted trained to 4 points in 20 steps" and last == f"wrote {out}"
    assert float(fit.removeprefix("on these samples: root mean squared error ")) < 0.5
    (tmp_path / "x.csv").write_text("x\n0.5\n-1\n")
    do_predict(out, tmp_path / "x.csv")
    lines = capsys.readouterr().out.splitlines()
    values = load_predictor(out)(torch.tensor([[0.5], [-1.0]]))[:, 0].tolist()
    assert lines == [f"0.5 -> {values[0]:.6g}", f"-1 -> {values[1]:.6g}"]
    do_predict(out, tmp_path / "x.csv", points, json=True)
    answers = json.loads(capsys.readouterr().out)
    assert [a["x"] for a in answers] == [[[0.5], [-1.0]], [[-1.0], [0.0], [1.0], [2.0]]]
    assert answers[0]["y"] == pytest.approx(values) and answers[0]["file"] == str(tmp_path / "x.csv")
    do_predict(out, tmp_path / "x.csv", points)
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'x.csv'}:\n0.5 -> ")


def test_inputs_are_found_by_the_names_of_the_points(tmp_path, capsys):
    run = loaded(RunConfig(SinusoidData(oracle=True), MLPNet(hidden=(8,)), MAMLMethod(inner_lr=0.01)))
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).round(decimals=3).tolist()

    def write(name, header):
        places = ["t", "amplitude", "phase", "Y"]
        lines = [",".join(str(row[places.index(column)]) for column in header) for row in rows]
        (tmp_path / name).write_text("\n".join([",".join(header), *lines]))
        return tmp_path / name

    do_adapt(run, write("points.csv", ["Y", "t", "amplitude", "phase"]), tmp_path / "mine")
    recipe = load_predictor(tmp_path / "mine").details["input"]
    assert (recipe["columns"], recipe["target"]) == (["t", "amplitude", "phase"], "Y")
    capsys.readouterr()
    do_predict(tmp_path / "mine", write("asked.csv", ["phase", "t", "Y", "amplitude"]), json=True)
    answer = json.loads(capsys.readouterr().out)[0]
    torch.testing.assert_close(torch.tensor(answer["x"]), torch.tensor(rows)[:, :3])
    with pytest.raises(DataError, match="has no column 'phase'"):
        do_predict(tmp_path / "mine", write("other.csv", ["t", "amplitude", "Y"]))


def test_some_of_the_points(points, tmp_path, capsys):
    do_adapt(point_run(), points, tmp_path / "a", shots=3)
    assert "3 points" in (said := capsys.readouterr().out) and "trained for 4 points, these are fewer" in said
    with pytest.raises(DataError, match=r"points.csv has 4 of the 9 points asked for; add 5$"):
        do_adapt(point_run(), points, tmp_path / "b", shots=9)


# ---- refusals --------------------------------------------------------------------------------------


def outputs(config, outputs):
    class Data(SinusoidData):
        input = {"kind": "points", "inputs": 1, "outputs": outputs}  # noqa: RUF012

    return loaded(RunConfig(Data(), config.net, config.method))


@pytest.mark.parametrize(
    ("trained", "settings", "kind", "sentence"),
    [
        (image_run, {"shots": 0}, ConfigError, "--shots must be at least 1, got 0"),
        (image_run, {"steps": -1}, ConfigError, "steps"),
        (image_run, {"shots": 3}, DataError, "3 problems:\n  .*bars has 2 of the 3 images asked for; add 1"),
        (image_run, {"norm": "running"}, FastadaptError, "norm='running' was asked of a learner"),
        (
            lambda: image_run(inner_lr=1e30),
            {},
            DivergenceError,
            "8 inner steps on .* not finite; use fewer --steps, or",
        ),
        (point_run, {}, DataError, "drawings as a table: it is a folder"),
        (lambda: outputs(point_run().config, 2), {}, ConfigError, "images and points with one output, the run takes"),
    ],
)
def test_adapt_refuses_and_writes_nothing(drawings, tmp_path, capsys, trained, settings, kind, sentence):
    with pytest.raises(kind, match=sentence):
        do_adapt(trained(), drawings, tmp_path / "out", **settings)
    assert [p.name for p in tmp_path.iterdir()] == ["drawings"] and capsys.readouterr().out == ""


def test_adapt_counts_classes(drawings, tmp_path):
    shutil.rmtree(drawings / "ring")
    with pytest.raises(
        DataError,
        match=r"has 2 class folders \(bars, cross\), the model needs exactly 3; add the missing ones$",
    ):
        do_adapt(image_run(), drawings, tmp_path / "out")


def test_adapt_looks_at_the_target_before_the_work(drawings, tmp_path):
    do_adapt(image_run(), drawings, tmp_path / "a")
    with pytest.raises(
        CheckpointError, match="already holds a predictor; name another folder, or allow it with --over"
    ):
        adapt.run(AdaptSettings(run=drawings, data=drawings, out=tmp_path / "a"), load=lambda _: pytest.fail("loaded"))
    assert do_adapt(image_run(), drawings, tmp_path / "a", overwrite=True, steps=1) == 0
    assert load_predictor(tmp_path / "a").details["steps"] == 1


def test_predict_prints_all_or_nothing(drawings, tmp_path, capsys):
    do_adapt(image_run(), drawings, tmp_path / "a")
    capsys.readouterr()
    (tmp_path / "broken.png").write_bytes((drawings / "ring" / "1.png").read_bytes()[:99])
    good = drawings / "ring" / "1.png"
    with pytest.raises(DataError, match=r"^can't decode \S+broken.png|^\S+broken.png is not a PNG"):
        do_predict(tmp_path / "a", good, tmp_path / "broken.png", good)
    with pytest.raises(DataError, match=r"^the list of 3 files has 2 problems:\n  .*broken.png.*\n  .*it is a folder"):
        do_predict(tmp_path / "a", good, tmp_path / "broken.png", drawings)
    with pytest.raises(ConfigError, match="nothing to predict: give at least one file"):
        do_predict(tmp_path / "a")
    with pytest.raises(CheckpointError, match="none is not a predictor: there is no such folder"):
        do_predict(tmp_path / "none", good)
    assert capsys.readouterr().out == ""


def test_predict_needs_to_know_the_input(points, tmp_path):
    from fastadapt import save_predictor

    do_adapt(point_run(), points, tmp_path / "a")
    predictor = load_predictor(tmp_path / "a")
    del predictor.details["input"]
    save_predictor(predictor, tmp_path / "b")
    with pytest.raises(
        CheckpointError, match="b does not say what its input is; load it in Python and call it with a te"
    ):
        do_predict(tmp_path / "b", points)


def test_an_answer_that_is_not_finite(points, tmp_path):
    from fastadapt import save_predictor

    do_adapt(point_run(), points, tmp_path / "a")
    predictor = load_predictor(tmp_path / "a")
    with torch.no_grad():
        predictor.model.head.weight.fill_(3e38)
    save_predictor(predictor, tmp_path / "b")
    with pytest.raises(
        DataError, match=r"the answer for \S+points.csv is not a finite number; check its values, or adapt"
    ):
        do_predict(tmp_path / "b", points)


# ---- the command line ------------------------------------------------------------------------------


def test_the_words_of_the_command_line_on_a_run_on_disk(points, tmp_path, capsys):
    trained = point_run()
    folder = tmp_path / "runs" / "sinusoid"
    save_checkpoint(folder / "checkpoints", Checkpoint(0, trained.learner.state_dict(), {}, {}))
    export_model(folder, trained.config)
    argv = [str(folder), str(points), "--out", str(tmp_path / "a"), "--steps", "3", "--norm", "support", "--fit", "pad"]
    assert adapt.main([*argv, "--shots", "4"]) == 0
    assert adapt.main([*argv, "--overwrite"]) == 0
    assert "adapted sinusoid to 4 points in 3 steps" in capsys.readouterr().out
    assert predict.main([str(tmp_path / "a"), str(points), str(points), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    with pytest.raises(CheckpointError):
        adapt.main([str(tmp_path), str(points), "--out", str(tmp_path / "b")])
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("command", [adapt, predict])
def test_help_names_every_option(command, capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    said = capsys.readouterr().out
    options = {
        adapt: ("RUN", "DATA", "--out", "--steps", "--norm", "--shots", "--fit", "--overwrite"),
        predict: ("PREDICTOR", "FILE...", "--json", "--fit"),
    }[command]
    assert all(option in said for option in options)
    assert "image" in said
