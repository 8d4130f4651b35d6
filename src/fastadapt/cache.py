"""Where files lie on this machine that can be fetched or made again."""

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Return the folder for what can be made again: downloads, decoded copies, verdicts; it may not exist yet.

    It is `FASTADAPT_CACHE`, else `XDG_CACHE_HOME/fastadapt`, else `~/.cache/fastadapt`.

    Returns:
        The folder, or `None` on a machine where the user has no home.

    Example:
        >>> from unittest.mock import patch
        >>> with patch.dict("os.environ", FASTADAPT_CACHE="big/disk"):
        ...     cache_folder().as_posix()
        'big/disk'
    """
    if own := os.environ.get("FASTADAPT_CACHE"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "fastadapt"
    try:
        return Path.home() / ".cache" / "fastadapt"
    except RuntimeError:
        return None
