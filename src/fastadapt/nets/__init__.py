"""Networks of the papers, by name."""

from fastadapt.nets.context import WithContext as WithContext
from fastadapt.nets.conv4 import Conv4 as Conv4
from fastadapt.nets.film import FiLM as FiLM
from fastadapt.nets.koch import KochNet as KochNet
from fastadapt.nets.lrua import Controller as Controller
from fastadapt.nets.mlp import MLP as MLP
from fastadapt.nets.rare_events import RareEventsEncoder as RareEventsEncoder
from fastadapt.nets.relation import Relation as Relation
from fastadapt.nets.relation import RelationEncoder as RelationEncoder
from fastadapt.nets.resnet12 import ResNet12 as ResNet12
from fastadapt.nets.snail import Snail as Snail
from fastadapt.nets.statistician import Generator as Generator
from fastadapt.nets.statistician import Statistic as Statistic
from fastadapt.nets.statistician import StatisticianEncoder as StatisticianEncoder
from fastadapt.nets.vit import ViT as ViT
