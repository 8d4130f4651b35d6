"""Data sets as task sources: objects with `sample(rng) -> Task`.

* `Sinusoid`: one-dimensional regression, the toy problem of the MAML and Reptile papers.
* `ClassImages`: N-way K-shot tasks over any images that have a class.
* `TableTasks`, `prepare_table`: tasks from the rows of your own table.
* `omniglot_tasks`, `load_omniglot`, `omniglot_split`: handwritten characters.
* `data_folders`, `cache_folder`: where the files are looked for and kept.
"""

from fastadapt.data.classes import ClassImages, Rotation
from fastadapt.data.download import cache_folder, data_folders
from fastadapt.data.omniglot import Omniglot, Resize, load_omniglot, omniglot_tasks
from fastadapt.data.omniglot_splits import ClassSplit, OmniglotSplit, omniglot_classes, omniglot_split
from fastadapt.data.sinusoid import Sinusoid
from fastadapt.data.table import TableTasks
from fastadapt.data.table_settings import TableData, prepare_table

__all__ = [
    "ClassImages",
    "ClassSplit",
    "Omniglot",
    "OmniglotSplit",
    "Resize",
    "Rotation",
    "Sinusoid",
    "TableData",
    "TableTasks",
    "cache_folder",
    "data_folders",
    "load_omniglot",
    "omniglot_classes",
    "omniglot_split",
    "omniglot_tasks",
    "prepare_table",
]
