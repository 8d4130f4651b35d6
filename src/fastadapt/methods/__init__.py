"""Methods: one file each, all meeting the contract of `fastadapt.learner.Learner`."""

from fastadapt.methods.maml import MAML as MAML
from fastadapt.methods.pretrain import Pretrain as Pretrain
from fastadapt.methods.reptile import Reptile as Reptile
