"""Where tensors live, as a person says it."""

import torch

from fastadapt.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """Return the device called `name`, where "auto" is a GPU if there is one.

    Raises:
        ConfigError: if CUDA is asked for and absent.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda was asked for, but torch sees no GPU; use --device cpu")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")
