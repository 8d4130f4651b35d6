"""What the package promises from outside: its names, its commands, its presets and its size."""

import ast
import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastadapt
from fastadapt.cli import COMMANDS
from fastadapt.runs.presets import PRESETS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "fastadapt"
HEAVY = (
    "matplotlib",
    "rich",
    "tyro",
    "PIL",
    "scipy",
    "sklearn",
    "tensorboard",
    "fastapi",
    "starlette",
    "pydantic",
    "uvicorn",
)

# A name appears or disappears here on purpose, with a line in CHANGELOG.md.
FROZEN_COMMANDS = [
    "train",
    "check",
    "embed",
    "evaluate",
    "compare",
    "reproduce",
    "adapt",
    "predict",
    "verify",
    "identify",
    "show",
    "fit",
    "report",
    "serve",
    "demo",
    "list",
    "doctor",
    "completion",
]
# What a command is made of beside its own file; not a command.
PARTS_OF_COMMANDS = {
    "train_table",
    "table_methods",
    "table_options",
    "check_faces",
    "check_table",
    "train_embeddings",
    "backbone_options",
    "train_faces",
    "evaluate_faces",
    "adapt_faces",
    "adapt_policy",
    "predict_policy",
    "goals",
}
FROZEN_PRESETS = [
    "anil-mini-imagenet-5w1s",
    "anil-mini-imagenet-5w5s",
    "anil-omniglot-20w1s",
    "anil-omniglot-20w5s",
    "anil-omniglot-5w1s",
    "anil-omniglot-5w5s",
    "boil-mini-imagenet-5w1s",
    "boil-mini-imagenet-5w5s",
    "boil-omniglot-20w1s",
    "boil-omniglot-20w5s",
    "boil-omniglot-5w1s",
    "boil-omniglot-5w5s",
    "cavia-mini-imagenet-5w1s",
    "cavia-mini-imagenet-5w5s",
    "cavia-sinusoid",
    "dsn-mini-imagenet-5w1s",
    "dsn-mini-imagenet-5w5s",
    "dsn-omniglot-20w1s",
    "dsn-omniglot-20w5s",
    "dsn-omniglot-5w1s",
    "dsn-omniglot-5w5s",
    "faces-cdt",
    "faces-cosface",
    "faces-fomfr",
    "faces-mfr",
    "faces-mldg",
    "faces-pooled",
    "finetune-omniglot-20w1s",
    "finetune-omniglot-20w5s",
    "finetune-omniglot-5w1s",
    "finetune-omniglot-5w5s",
    "fomaml-mini-imagenet-5w1s",
    "fomaml-mini-imagenet-5w5s",
    "fomaml-navigation",
    "fomaml-omniglot-20w1s",
    "fomaml-omniglot-20w5s",
    "fomaml-omniglot-5w1s",
    "fomaml-omniglot-5w5s",
    "fomaml-sinusoid",
    "foprotomaml-mini-imagenet-5w1s",
    "foprotomaml-mini-imagenet-5w5s",
    "foprotomaml-omniglot-20w1s",
    "foprotomaml-omniglot-20w5s",
    "foprotomaml-omniglot-5w1s",
    "foprotomaml-omniglot-5w5s",
    "imaml-mini-imagenet-5w1s",
    "imaml-mini-imagenet-5w5s",
    "imaml-omniglot-20w1s",
    "imaml-omniglot-20w5s",
    "imaml-omniglot-5w1s",
    "imaml-omniglot-5w5s",
    "lstm-omniglot-5w",
    "maml-ant-direction",
    "maml-ant-velocity",
    "maml-half-cheetah-direction",
    "maml-half-cheetah-velocity",
    "maml-mini-imagenet-5w1s",
    "maml-mini-imagenet-5w5s",
    "maml-navigation",
    "maml-omniglot-20w1s",
    "maml-omniglot-20w5s",
    "maml-omniglot-5w1s",
    "maml-omniglot-5w5s",
    "maml-omniglot-noconv-5w1s",
    "maml-omniglot-noconv-5w5s",
    "maml-sinusoid",
    "mamlpp-mini-imagenet-5w1s",
    "mamlpp-mini-imagenet-5w5s",
    "mamlpp-omniglot-20w1s",
    "mamlpp-omniglot-20w5s",
    "mamlpp-omniglot-5w1s",
    "mamlpp-omniglot-5w5s",
    "mann-omniglot-5w",
    "matching-mini-imagenet-5w1s",
    "matching-mini-imagenet-5w5s",
    "matching-omniglot-20w1s",
    "matching-omniglot-20w5s",
    "matching-omniglot-5w1s",
    "matching-omniglot-5w5s",
    "memory-conv4-omniglot-5w1s",
    "memory-omniglot-20w1s",
    "memory-omniglot-20w5s",
    "memory-omniglot-5w1s",
    "memory-omniglot-5w5s",
    "meta-curvature-omniglot-5w1s",
    "meta-curvature-omniglot-5w5s",
    "meta-curvature-sinusoid",
    "meta-lstm-mini-imagenet-5w1s",
    "meta-lstm-mini-imagenet-5w5s",
    "meta-lstm-omniglot-5w1s",
    "meta-lstm-omniglot-5w5s",
    "meta-lstm-sinusoid",
    "metasgd-mini-imagenet-5w1s",
    "metasgd-mini-imagenet-5w5s",
    "metasgd-omniglot-20w1s",
    "metasgd-omniglot-20w5s",
    "metasgd-omniglot-5w1s",
    "metasgd-omniglot-5w5s",
    "metasgd-sinusoid",
    "nearest-omniglot-20w1s",
    "nearest-omniglot-20w5s",
    "nearest-omniglot-5w1s",
    "nearest-omniglot-5w5s",
    "oracle-ant-direction",
    "oracle-ant-velocity",
    "oracle-half-cheetah-direction",
    "oracle-half-cheetah-velocity",
    "oracle-navigation",
    "oracle-sinusoid",
    "pretrain-ant-direction",
    "pretrain-ant-velocity",
    "pretrain-half-cheetah-direction",
    "pretrain-half-cheetah-velocity",
    "pretrain-navigation",
    "pretrain-sinusoid",
    "promp-navigation",
    "protomaml-mini-imagenet-5w1s",
    "protomaml-mini-imagenet-5w5s",
    "protomaml-omniglot-20w1s",
    "protomaml-omniglot-20w5s",
    "protomaml-omniglot-5w1s",
    "protomaml-omniglot-5w5s",
    "protonet-mini-imagenet-5w1s",
    "protonet-mini-imagenet-5w5s",
    "protonet-omniglot-20w1s",
    "protonet-omniglot-20w5s",
    "protonet-omniglot-5w1s",
    "protonet-omniglot-5w5s",
    "protonet-vit-omniglot-5w1s",
    "relation-mini-imagenet-5w1s",
    "relation-mini-imagenet-5w5s",
    "relation-omniglot-20w1s",
    "relation-omniglot-20w5s",
    "relation-omniglot-5w1s",
    "relation-omniglot-5w5s",
    "relation-vit-omniglot-5w1s",
    "reptile-mini-imagenet-5w1s",
    "reptile-mini-imagenet-5w5s",
    "reptile-omniglot-20w1s",
    "reptile-omniglot-20w5s",
    "reptile-omniglot-5w1s",
    "reptile-omniglot-5w5s",
    "reptile-sinusoid",
    "rl2-navigation",
    "siamese-omniglot-20w1s",
    "siamese-omniglot-20w5s",
    "siamese-omniglot-5w1s",
    "siamese-omniglot-5w5s",
    "snail-mini-imagenet-5w1s",
    "snail-mini-imagenet-5w5s",
    "snail-omniglot-20w1s",
    "snail-omniglot-20w5s",
    "snail-omniglot-5w1s",
    "snail-omniglot-5w5s",
    "statistician-omniglot-20w1s",
    "statistician-omniglot-20w5s",
    "statistician-omniglot-5w1s",
    "statistician-omniglot-5w5s",
]


def public_names() -> list[str]:
    body = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8")).body
    return [alias.asname or alias.name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names]


NAMES = public_names()
CALLABLE = [name for name in NAMES if name != "__version__"]


def test_there_are_at_most_fifty_names_each_once_and_as_itself() -> None:
    assert len(NAMES) == len(set(NAMES)) <= 50
    body = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8")).body
    imports = [alias for node in body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert [a.name for a in imports if a.asname != a.name] == []
    assert sorted(fastadapt.__all__) == sorted(NAMES)
    assert [name for name in NAMES if not hasattr(fastadapt, name)] == []


@pytest.mark.parametrize("name", CALLABLE)
def test_a_public_name_is_documented(name: str) -> None:
    public = getattr(fastadapt, name)
    described = public if inspect.isclass(public) or inspect.isfunction(public) else type(public)
    summary = (described.__dict__.get("__doc__") if inspect.isclass(described) else described.__doc__) or ""
    first = summary.strip().split("\n\n")[0]
    assert re.match(r"[A-Z].*[.:]$", first, re.DOTALL), f"{name}: no sentence at first, but {first!r}"
    assert not first.startswith(f"{name}("), f"{name} has the docstring that dataclass makes"
    if inspect.isclass(public):
        bare = [n for n, member in own_members(public) if not inspect.getdoc(member)]
        assert bare == [], f"methods of {name} without a docstring"


def own_members(kind: type) -> list[tuple[str, object]]:
    """Return the public methods and properties that a class defines itself."""
    members = [(n, m.fget if isinstance(m, property) else m) for n, m in vars(kind).items() if not n.startswith("_")]
    return [(n, m) for n, m in members if inspect.isfunction(m)]


@pytest.mark.parametrize("name", CALLABLE)
def test_a_public_name_is_annotated(name: str) -> None:
    public = getattr(fastadapt, name)
    functions = [(name, public)] if inspect.isfunction(public) else []
    if inspect.isclass(public):
        functions = own_members(public)
        made = dataclasses.is_dataclass(public) or getattr(public, "_is_protocol", False)
        if "__init__" in vars(public) and not made:
            functions.append(("__init__", vars(public)["__init__"]))
    for where, function in functions:
        signature = inspect.signature(function)
        parameters = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
        assert [p.name for p in parameters if p.annotation is p.empty] == [], f"{name}.{where}"
        assert signature.return_annotation is not signature.empty, f"{name}.{where}"


def test_the_api_page_lists_exactly_the_public_names() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (.*) \|$", page, re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(NAMES)
    assert [name for name, text in rows if not text.strip()] == []


def test_importing_it_imports_nothing_heavy() -> None:
    code = f"import sys, fastadapt; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_no_command_appears_or_disappears_unnoticed() -> None:
    assert list(COMMANDS) == FROZEN_COMMANDS
    files = {path.stem for path in (PACKAGE / "commands").glob("*.py")} - {"__init__"}
    assert files == set(FROZEN_COMMANDS) | PARTS_OF_COMMANDS


def test_no_preset_appears_or_disappears_unnoticed() -> None:
    assert sorted(PRESETS) == FROZEN_PRESETS


@pytest.mark.parametrize("top", ["src", "tests"])
def test_no_file_is_longer_than_400_lines(top: str) -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text("utf-8").splitlines()) for p in (ROOT / top).rglob("*.py")}
    assert lengths, f"there is nothing in {top}"
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_folders_are_at_most_two_deep() -> None:
    deep = [p for p in PACKAGE.rglob("*.py") if len(p.relative_to(PACKAGE).parents) - 1 > 2]
    assert deep == []
