"""What needs no tensors does not wait for torch: help, the list of runs, completion; and says what is true."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastadapt.cli import COMMANDS, main
from fastadapt.commands import completion
from fastadapt.published.listing import FILE, make_listing, read_listing

WORDS = [[], ["--help"], ["--version"], ["list"], ["list", "--json"], ["completion", "bash"], ["completion", "fish"]]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_it_does_not_import_torch(words: list[str], tmp_path: Path) -> None:
    run = tmp_path / "runs" / "mine"
    (run / "checkpoints" / "step-00000007").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    record = {"metric": "mse", "mean": [2.0, 0.5], "ci95": [0.1, 0.1], "step": 7, "protocol": {"report": None}}
    (run / "evaluation.json").write_text(json.dumps(record))
    code = (
        f"import sys; from fastadapt.cli import main; main({words!r}); print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stderr.strip().splitlines()[-1] == "False", done.stderr
    if words == ["list"]:
        assert "step 7  mse 0.5000 ± 0.1000" in done.stdout


@pytest.mark.long
def test_the_package_alone_does_not_import_torch_and_gives_its_names_when_asked() -> None:
    code = "import sys, fastadapt as fa; print('torch' in sys.modules, 'MAML' in dir(fa), fa.MAML.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "MAML"]


def test_what_is_listed_is_what_there_is() -> None:
    hint = f"{FILE.name} is out of date; run python -m fastadapt.published.listing"
    assert read_listing() == json.loads(json.dumps(make_listing())), hint


def test_what_is_completed_is_what_there_is() -> None:
    hint = f"{completion.FILE.name} is out of date; run python -m fastadapt.commands.completion"
    assert json.loads(completion.FILE.read_text()) == completion.make_options(), hint


def completed(script: str, *words: str) -> list[str]:
    """Return what bash offers for the last of the words."""
    line = (
        f'{script}\nCOMP_WORDS=({" ".join(words)})\nCOMP_CWORD={len(words) - 1}\n_fastadapt\necho "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_options_and_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert completed(script, "fastadapt", '""') == list(COMMANDS)
    assert completed(script, "fastadapt", "re") == ["reproduce", "report"]
    assert completed(script, "fastadapt", "train", "oracle") == [
        "oracle-sinusoid",
        "oracle-navigation",
        "oracle-half-cheetah-velocity",
        "oracle-half-cheetah-direction",
        "oracle-ant-velocity",
        "oracle-ant-direction",
    ]
    assert completed(script, "fastadapt", "check", "--wa") == ["--ways"]
    assert "--data.min-images" in completed(script, "fastadapt", "train", "--data.m")
    assert completed(script, "fastadapt", "serve", "dra") == ["drawing", "drawing-reptile"]
    assert completed(script, "fastadapt", "predict", "pic") == []  # bash goes on with files


def test_the_zsh_script_is_that_of_bash_behind_its_bridge(capsys: pytest.CaptureFixture[str]) -> None:
    scripts = []
    for shell in ("bash", "zsh"):
        main(["completion", shell])
        scripts.append(capsys.readouterr().out)
    assert scripts[1].endswith(scripts[0]) and "bashcompinit" in scripts[1].removesuffix(scripts[0])


def test_the_fish_script_names_each_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "fish"])
    lines = capsys.readouterr().out.splitlines()
    assert sum("__fish_use_subcommand" in line for line in lines) == len(COMMANDS)
    assert 'complete -c fastadapt -n "__fish_seen_subcommand_from check" -l ways' in lines


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert "tcsh" in capsys.readouterr().err
