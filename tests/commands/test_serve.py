"""`fastadapt serve` and `fastadapt demo`: what they refuse, and a server as a process of its own."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time

import httpx2 as httpx
import pytest

from fastadapt.cli import main
from fastadapt.commands import demo, serve
from fastadapt.errors import ConfigError, MissingExtraError
from fastadapt.methods.settings import ReptileMethod
from fastadapt.runs.run_files import MODEL_FILES
from fastadapt.serve.run import listen
from fastadapt.serve.served import ServedModel, load_served, measured
from fastadapt.training.checkpoint import write_manifest
from serve.kit import drawing, loaded, waves


@pytest.fixture
def run(tmp_path):
    """Write the model of a run to disk, as training leaves it."""
    from safetensors.torch import save_file

    trained = drawing("mine").run
    folder = tmp_path / "mine"
    (folder / "model").mkdir(parents=True)
    save_file(trained.learner.state_dict(), folder / "model" / "learner.safetensors")
    facts = {"step": 7, "config": json.loads(trained.config.to_json())}
    (folder / "model" / "model.json").write_text(json.dumps(facts))
    write_manifest(folder / "model", MODEL_FILES)
    (folder / "config.json").write_text(trained.config.to_json())
    return folder


def test_a_run_is_loaded_with_its_results(run):
    record = {"metric": "accuracy", "mean": [0.2, 0.9], "ci95": [0.1, 0.01], "protocol": {"report": None}}
    (run / "evaluation.json").write_text(json.dumps({**record, "transductive": True}))
    model = load_served(str(run))
    assert model.name == "mine" and model.run.step == 7
    assert model.results == [{"ways": 5, "shots": 1, "mean": 0.9, "ci95": 0.01, "alone": False}]
    for damaged in ("", "[]", '{"metric": "accuracy"}', json.dumps({**record, "mean": ["nan", "nan"]})):
        (run / "evaluation.json").write_text(damaged)
        assert measured(run, model.run) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "nothing to serve"),
        (["nowhere"], "not a run"),
        (["RUN", "--workers", "0"], "--workers must be at least 1"),
        (["RUN", "--port", "70000"], "--port must be 0..65535"),
        (["RUN", "RUN"], "the same name"),
        (["RUN", "--host", "203.0.113.7"], "no such address"),
        (["RUN", "--token", "пароль"], "--token takes letters"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_sentence(run, words, sentence, capsys):
    assert main(["serve", *(str(run) if word == "RUN" else word for word in words)]) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.strip().splitlines()) == 1


def test_other_methods_run_on_the_same_kind_of_task_only():
    own = drawing().run
    reptile = loaded(dataclasses.replace(own.config, method=ReptileMethod(norm="support")), "drawing-reptile")
    model = ServedModel(own, others=[reptile])
    assert [method.name for method in model.methods] == ["maml", "reptile", "fine-tune", "nearest-mean"]
    assert model.run_for(3, "reptile").name == "drawing-reptile" and model.run_for(3, "maml").name == "drawing"
    assert type(model.learner("reptile", 3)).__name__ == "Reptile"
    assert model.digest("reptile") != model.digest("maml")
    with pytest.raises(ConfigError, match="one method twice"):
        ServedModel(own, others=[own])
    with pytest.raises(ConfigError, match="another kind of input"):
        ServedModel(own, others=[waves().run])


def test_a_port_that_is_taken_is_said_to_be():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="another program has it"):
            listen("127.0.0.1", taken.getsockname()[1])


def test_without_the_extra_the_command_says_what_to_install(run, monkeypatch):
    monkeypatch.setattr(serve, "_NEEDED", ("fastapi", "a_module_that_is_not_there"))
    with pytest.raises(MissingExtraError, match=r"a_module_that_is_not_there.*fastadapt\[serve\]"):
        serve.run(serve.ServeSettings(runs=(str(run),)))


def test_the_demo_serves_the_shipped_model_here_and_opens_the_page(monkeypatch):
    asked = []
    monkeypatch.setattr(demo, "serve", lambda settings: asked.append(settings) or 0)
    assert demo.main(["--port", "9000", "--no-open"]) == 0 and demo.main([]) == 0
    assert asked[0] == serve.ServeSettings(runs=("drawing",), port=9000, open=False)
    assert asked[1].open and asked[1].host == "127.0.0.1"


def start(run, *options):
    command = [sys.executable, "-m", "fastadapt.cli", "serve", str(run), "--port", "0", *options]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "FASTADAPT_TOKEN": "word"},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "fastadapt serves mine at http://127.0.0.1:" in line, process.stderr and process.stderr.read()
    return process, line.split(" at ")[1].split()[0]


@pytest.mark.slow
def test_a_killed_server_starts_again_and_leaves_nothing(run, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    process, address = start(run)
    assert httpx.get(f"{address}/healthz", trust_env=False).json() == {"status": "ok"}
    assert httpx.get(f"{address}/api/models", trust_env=False).status_code == 401
    answer = httpx.get(f"{address}/api/models", headers={"authorization": "Bearer word"}, trust_env=False)
    assert answer.json()["models"][0]["name"] == "mine" and "server" not in answer.headers
    process.kill()
    process.communicate()
    began = time.monotonic()
    process, address = start(run)
    took = time.monotonic() - began
    assert httpx.get(f"{address}/healthz", trust_env=False).status_code == 200
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode in (0, 143, -signal.SIGTERM)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert took < 15  # the target is 3 s on an idle machine; importing torch takes most of it
