"""Which checkpoints lie in a folder."""

import re
from pathlib import Path


def newest_step(folder: Path) -> int:
    """Return the highest step among the checkpoints below `folder`, 0 if there is none."""
    found = saved_steps(folder)
    return int(found[0].name.removeprefix("step-")) if found else 0


def saved_steps(folder: Path) -> list[Path]:
    """Return the checkpoint folders below `folder`, newest first, whether valid or not."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if re.fullmatch(r"step-\d{8,}", path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)
