"""What a showcase has done so far, so that a stopped one goes on."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastadapt.atomic import write_text
from fastadapt.results.evaluation_json import json_values

logger = logging.getLogger("fastadapt")


class Stages:
    """Keep the results of finished parts in a folder, one JSON file each.

    Args:
        folder: of the showcase.
        quiet: say nothing.

    Example:
        >>> import tempfile
        >>> stages = Stages(Path(tempfile.mkdtemp()))
        >>> stages.kept("sum", lambda: 1 + 1), stages.kept("sum", lambda: 1 / 0)
        (2, 2)
    """

    def __init__(self, folder: Path, quiet: bool = True) -> None:
        self.folder = folder
        self.quiet = quiet

    def kept(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return what `compute` gave, now or in an earlier life, as JSON has it."""
        file = self.folder / "stages" / f"{name.replace(' ', '-').replace('/', '-')}.json"
        if not file.is_file():
            write_text(file, json.dumps(json_values(compute())) + "\n")
        return json.loads(file.read_text(encoding="utf-8"))

    def say(self, sentence: str) -> None:
        """Tell what comes next."""
        if not self.quiet:
            logger.info("%s", sentence)
