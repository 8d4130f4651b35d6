"""Meta-learning for PyTorch: learn a new task from a handful of samples in a few gradient steps.

The public names are those of `__init__.pyi`. Each is imported when it is first used, so that what needs no tensors
(`fastadapt --help`, `fastadapt list`) does not wait for torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
