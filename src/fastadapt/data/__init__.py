"""Data sets as task sources: objects with `sample(rng) -> Task`.

* `Sinusoid`: one-dimensional regression, the toy problem of the MAML and Reptile papers.
* `ClassImages`: N-way K-shot tasks over any images that have a class.
* `AllClasses`: batches of images of all classes with their numbers, for an ordinary classifier.
* `Fields`: pictures, sounds and volumes as functions of a position.
* `TableTasks`, `prepare_table`: tasks from the rows of your own table.
* `omniglot_tasks`, `load_omniglot`, `omniglot_split`: handwritten characters.
* `mini_imagenet_tasks`, `load_mini_imagenet`, `mini_imagenet_split`: photographs.
* `data_folders`, `cache_folder`: where the files are looked for and kept.
"""

from fastadapt.cache import cache_folder
from fastadapt.data.download import data_folders
from fastadapt.data.fields.fields import Fields
from fastadapt.data.images.classes import ClassImages, Rotation
from fastadapt.data.images.flat import AllClasses
from fastadapt.data.images.mini_imagenet import MiniImageNet, load_mini_imagenet, mini_imagenet_tasks
from fastadapt.data.images.mini_imagenet_splits import mini_imagenet_split
from fastadapt.data.images.omniglot import Omniglot, Resize, load_omniglot, omniglot_tasks
from fastadapt.data.images.omniglot_splits import ClassSplit, OmniglotSplit, omniglot_classes, omniglot_split
from fastadapt.data.sinusoid import Sinusoid
from fastadapt.data.tables.table import TableTasks
from fastadapt.data.tables.table_settings import TableData, prepare_table

__all__ = [
    "AllClasses",
    "ClassImages",
    "ClassSplit",
    "Fields",
    "MiniImageNet",
    "Omniglot",
    "OmniglotSplit",
    "Resize",
    "Rotation",
    "Sinusoid",
    "TableData",
    "TableTasks",
    "cache_folder",
    "data_folders",
    "load_mini_imagenet",
    "load_omniglot",
    "mini_imagenet_split",
    "mini_imagenet_tasks",
    "omniglot_classes",
    "omniglot_split",
    "omniglot_tasks",
    "prepare_table",
]
