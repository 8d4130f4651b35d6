"""Meta-learning for PyTorch: learn a new task from a handful of samples in a few gradient steps."""

from fastadapt.errors import FastadaptError as FastadaptError
from fastadapt.inner import adapt as adapt
from fastadapt.learner import Learner as Learner
from fastadapt.learner import Outcome as Outcome
from fastadapt.learner import Trace as Trace
from fastadapt.losses import MSE as MSE
from fastadapt.losses import CrossEntropy as CrossEntropy
from fastadapt.losses import cross_entropy as cross_entropy
from fastadapt.losses import mse as mse
from fastadapt.methods.maml import MAML as MAML
from fastadapt.methods.pretrain import Pretrain as Pretrain
from fastadapt.methods.reptile import Reptile as Reptile
from fastadapt.nets.conv4 import Conv4 as Conv4
from fastadapt.nets.mlp import MLP as MLP
from fastadapt.predictor import Predictor as Predictor
from fastadapt.rules import SGD as SGD
from fastadapt.rules import Adam as Adam
from fastadapt.rules import Clip as Clip
from fastadapt.rules import Momentum as Momentum
from fastadapt.selection import select as select
from fastadapt.tasks import Task as Task
from fastadapt.tasks import Tasks as Tasks
from fastadapt.tasks import TaskSource as TaskSource
from fastadapt.tasks import group_by_shape as group_by_shape

__version__ = "0.1.0"
