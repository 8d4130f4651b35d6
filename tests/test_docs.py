"""The documentation: its Python runs, its commands parse, its links lead somewhere, its examples work."""

import contextlib
import importlib
import inspect
import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import tyro

import fastadapt
from conformance import test_learners as conformance
from conformance.kinds import KINDS, Entry, of
from fastadapt import SGD
from fastadapt.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: \S.* -->\s*\Z")


def blocks(page: Path, language: str) -> list[tuple[int, str, bool]]:
    """Return line number, text, and whether it is to be run, of each block in `language`."""
    text, found = page.read_text(encoding="utf-8"), []
    for match in _BLOCK.finditer(text):
        if match[2] == language:
            line, indent = text[: match.start(3)].count("\n"), len(match[1])
            code = "".join(row[indent:] if row.strip() else row for row in match[3].splitlines(keepends=True))
            found.append((line, code, not _NOT_RUN.search(text[: match.start()])))
    return found


def run_page(page: Path) -> dict[str, Any]:
    """Run the Python blocks of a page in one namespace, with the page's line numbers in tracebacks."""
    module = ModuleType("__docs__")
    sys.modules["__docs__"] = module  # where dataclasses look for their module
    try:
        for line, code, wanted in blocks(page, "python"):
            compiled = compile("\n" * line + code, str(page), "exec")
            if wanted:
                exec(compiled, module.__dict__)
    finally:
        del sys.modules["__docs__"]
    return module.__dict__


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.random.seed(0)
    torch.manual_seed(0)
    assert torch.get_num_threads() == 1
    return tmp_path


@pytest.mark.long
@pytest.mark.parametrize("page", [p for p in PAGES[1:] if blocks(p, "python")], ids=lambda page: page.name)
def test_python_in_the_page_runs(page, empty_folder):
    run_page(page)


@pytest.mark.long
def test_the_first_program_of_the_readme_is_short_and_learns(empty_folder):
    _, code, wanted = blocks(ROOT / "README.md", "python")[0]
    assert wanted
    assert len(code.splitlines()) <= 15
    names = run_page(ROOT / "README.md")
    result = fastadapt.evaluate(names["learner"], names["sample"], fastadapt.Protocol(tasks=100))
    assert result.mean[-1] < result.mean[0] / 10
    x, truth = names["x"], 2 * torch.sin(names["x"] + 1)
    assert float((names["predict"](x).detach() - truth).square().mean()) < 0.3


@pytest.mark.long
def test_the_documented_change_to_maml_is_one_line_of_one_file(empty_folder, monkeypatch):
    text = (ROOT / "docs" / "write_a_method.md").read_text(encoding="utf-8")
    [before], [after] = (re.findall(rf"^\{sign} {{8}}(\S.*)$", text, re.MULTILINE) for sign in "-+")
    source = (ROOT / "src" / "fastadapt" / "methods" / "maml.py").read_text(encoding="utf-8")
    assert source.count(before) == 1
    changed = ModuleType("changed_maml")
    monkeypatch.setitem(sys.modules, "changed_maml", changed)
    exec(compile(source.replace(before, after), "maml.py", "exec"), changed.__dict__)
    both = run_page(ROOT / "docs" / "write_a_method.md")["BothSets"]
    tasks = KINDS["regression"].tasks()
    grads = []
    for kind in (changed.MAML, both, fastadapt.MAML):
        torch.manual_seed(0)
        learner = kind(KINDS["regression"].model(), rule=SGD(0.1), steps=2)
        learner(tasks).loss.backward()
        grads.append(torch.cat([p.grad.flatten() for p in learner.parameters() if p.requires_grad]))
    assert torch.equal(grads[0], grads[1]) and not torch.allclose(grads[0], grads[2])


@pytest.mark.long
@pytest.mark.parametrize("kind", ["regression", pytest.param("ragged", marks=pytest.mark.slow)])
def test_the_documented_learner_passes_the_conformance_suite(kind, empty_folder, double):
    torch.set_default_dtype(torch.float32)
    learner = run_page(ROOT / "docs" / "write_a_method.md")["MultiStepMAML"]
    learner.__module__ = __name__
    globals()["MultiStepMAML"] = learner  # where pickle looks for it
    torch.set_default_dtype(torch.float64)
    entry, count = Entry(of(learner, rule=SGD(0.1), steps=2)), 0
    for _, test in inspect.getmembers(conformance, lambda f: inspect.isfunction(f) and f.__name__.startswith("test_")):
        marks = [mark.args for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
        for values in itertools.product(*(values for _, values in marks)):
            torch.manual_seed(0)
            given = {"entry": entry, "kind": KINDS[kind], "tasks": KINDS[kind].tasks()}
            given["learner"] = entry.build(KINDS[kind].model(), KINDS[kind].loss)
            given |= {name: value for (name, _), value in zip(marks, values, strict=True)}
            with contextlib.suppress(pytest.skip.Exception):
                test(**{name: given[name] for name in inspect.signature(test).parameters})
            count += 1
    assert count >= 15


class _Parsed(Exception):
    pass


def documented_commands():
    for page in PAGES:
        for line, text, _ in blocks(page, "bash"):
            joined = text.replace("\\\n", "  ")  # a command may go on in the next row
            for number, row in enumerate(joined.splitlines(), start=line + 1):
                words = shlex.split(row, comments=True)
                if words[:1] == ["fastadapt"]:
                    yield pytest.param(words[1:], id=f"{page.name}:{number}")


@pytest.mark.parametrize("words", list(documented_commands()))
def test_a_documented_command_parses(words, monkeypatch):
    def stop_after(parse):
        def parsed(*args, **kwargs):
            raise _Parsed(parse(*args, **kwargs))

        return parsed

    if words == ["--version"]:
        return
    assert words[0] in COMMANDS
    monkeypatch.setattr(tyro, "cli", stop_after(tyro.cli))
    monkeypatch.setattr(tyro.extras, "overridable_config_cli", stop_after(tyro.extras.overridable_config_cli))
    with pytest.raises(_Parsed):
        importlib.import_module(f"fastadapt.commands.{words[0]}").main(words[1:])


def test_documented_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"\bmake ([a-z-]+)(?=`|\s+#)", page.read_text("utf-8"))}
    assert named and named <= targets


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_torch_is_pinned_wherever_a_clone_is_installed(page):
    for line in page.read_text(encoding="utf-8").splitlines():
        assert "-e ." not in line.replace('"', "") or "torch==2.13.0" in line


@pytest.mark.long
@pytest.mark.parametrize("name", ["own_function", "own_loop"])
def test_an_example_runs(name, tmp_path):
    script = ROOT / "examples" / f"{name}.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 60
    command = [sys.executable, "-W", "error::UserWarning", str(script), "--steps", "20", "--tasks", "20"]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, cwd=tmp_path, env=one_thread, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "95 % CI, 20 tasks" in done.stdout


def test_the_exit_codes_of_the_pages_are_those_of_the_command_line(capsys):
    for page in ("README.md", "docs/command_line.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert all(re.search(rf"^\| (130, )?{code}\b", text, re.MULTILINE) for code in (0, 1, 2)), page
        assert "130" in text and "143" in text
    assert main(["nonsense"]) == 2
    assert main(["train", "nonsense"]) == 2
    assert main(["--help"]) == 0
    capsys.readouterr()
