"""`fastadapt completion SHELL`: print a script with which the shell completes commands, options and names.

The words lie in `completion.json`, because a shell should not wait for torch. `python -m fastadapt.commands.completion`
writes them anew; a test says when they are out of date.
"""

import json
import re
import shlex
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal

import tyro

from fastadapt.commands import COMMANDS
from fastadapt.published.listing import read_listing
from fastadapt.runs.shipped import shipped_models

FILE = Path(__file__).with_name("completion.json")
"""The options of each command."""
FORMS = {
    "train": (
        [],
        ["maml-sinusoid"],
        ["--data", "FOLDER"],
        ["--data", "TABLE", "--target", "COLUMN"],
        ["--data", "F.npz"],
    )
}
"""The words after which a command has options of their own."""

BASH = """_fastadapt() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}"
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W {commands} -- "$word"))
    return
  fi
  case "${{COMP_WORDS[1]}}:$word" in
{cases}
  esac
}}
complete -o default -F _fastadapt fastadapt
"""
ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


@dataclass(frozen=True)
class CompletionSettings:
    """Print a script for a shell: `source <(fastadapt completion bash)`, or `fastadapt completion fish | source`."""

    shell: tyro.conf.Positional[Literal["bash", "zsh", "fish"]]
    """The shell."""


def main(argv: Sequence[str]) -> int:
    """Parse the command line and print the script."""
    settings = tyro.cli(CompletionSettings, args=list(argv), prog="fastadapt completion")
    options = json.loads(FILE.read_text(encoding="utf-8"))
    print(_fish(options) if settings.shell == "fish" else _bash(options, settings.shell), end="")
    return 0


def names_of() -> dict[str, list[str]]:
    """Return the names that each command takes, beside files and folders.

    Example:
        >>> names_of()["serve"]
        ['drawing', 'drawing-reptile']
    """
    listing, shipped = read_listing(), shipped_models()
    takes = {"train": list(listing["presets"]), "reproduce": list(listing["published"])}
    return takes | dict.fromkeys(("adapt", "evaluate", "serve", "report"), shipped) | {"completion": _SHELLS}


_SHELLS = ["bash", "zsh", "fish"]


def _bash(options: dict[str, list[str]], shell: str) -> str:
    def reply(words: list[str]) -> str:
        return f'COMPREPLY=($(compgen -W {shlex.quote(" ".join(words))} -- "$word"))'

    cases = [f"    {command}:-*) {reply(options[command])} ;;" for command in COMMANDS]
    cases += [f"    {command}:*) {reply(names)} ;;" for command, names in names_of().items()]
    script = BASH.format(commands=shlex.quote(" ".join(COMMANDS)), cases="\n".join(cases))
    return (ZSH if shell == "zsh" else "") + script


def _fish(options: dict[str, list[str]]) -> str:
    lines = [
        f"complete -c fastadapt -n __fish_use_subcommand -f -a {command} -d {shlex.quote(text)}"
        for command, text in COMMANDS.items()
    ]
    for command in COMMANDS:
        after = f'complete -c fastadapt -n "__fish_seen_subcommand_from {command}"'
        if names := names_of().get(command):
            lines.append(f"{after} -a {shlex.quote(' '.join(names))}")
        lines += [f"{after} -l {option.removeprefix('--')}" for option in options[command] if option.startswith("--")]
    return "\n".join(lines) + "\n"


def make_options() -> dict[str, list[str]]:
    """Return the options of each command, as its help tells them."""
    import importlib

    found: dict[str, list[str]] = {}
    for command in COMMANDS:
        module, text = importlib.import_module(f"fastadapt.commands.{command}"), StringIO()
        for words in FORMS.get(command, ([],)):
            with redirect_stdout(text), suppress(SystemExit):
                module.main([*words, "--help"])
        found[command] = sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z0-9.-]*[a-z0-9](?![\w-])", text.getvalue())))
    return found


if __name__ == "__main__":
    FILE.write_text(json.dumps(make_options(), indent=1) + "\n", encoding="utf-8")
