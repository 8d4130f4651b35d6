"""Methods: one file each, all meeting the contract of `fastadapt.learner.Learner`.

Beside them, `tune_transfer` chooses the rates of `FineTune`, and `average_regressors` makes a start for `Pretrain`;
`mean_feature` is the centre of a head on frozen features.
"""

from fastadapt.methods.averaged import average_regressors as average_regressors
from fastadapt.methods.cavia import CAVIA as CAVIA
from fastadapt.methods.centroid import NearestCentroid as NearestCentroid
from fastadapt.methods.cosine_head import CosineHead as CosineHead
from fastadapt.methods.ensemble import Ensemble as Ensemble
from fastadapt.methods.feature_reuse import nil as nil
from fastadapt.methods.features import mean_feature as mean_feature
from fastadapt.methods.fine_tune import FineTune as FineTune
from fastadapt.methods.foml import FOML as FOML
from fastadapt.methods.gaussian_prior import GaussianPrior as GaussianPrior
from fastadapt.methods.least_squares import RidgeHead as RidgeHead
from fastadapt.methods.linear_probe import LinearProbe as LinearProbe
from fastadapt.methods.maml import MAML as MAML
from fastadapt.methods.mamlpp import MAMLPlusPlus as MAMLPlusPlus
from fastadapt.methods.mann import MANN as MANN
from fastadapt.methods.matching import MatchingNet as MatchingNet
from fastadapt.methods.memory_module import MemoryModule as MemoryModule
from fastadapt.methods.mldg import MLDG as MLDG
from fastadapt.methods.nearest import NearestNeighbour as NearestNeighbour
from fastadapt.methods.nearest_sample import NearestSample as NearestSample
from fastadapt.methods.onnx_backbone import OnnxBackbone as OnnxBackbone
from fastadapt.methods.pmf import PMF as PMF
from fastadapt.methods.pretrain import Pretrain as Pretrain
from fastadapt.methods.protomaml import ProtoMAML as ProtoMAML
from fastadapt.methods.protonet import ProtoNet as ProtoNet
from fastadapt.methods.relation import RelationNet as RelationNet
from fastadapt.methods.reptile import Reptile as Reptile
from fastadapt.methods.siamese import SiameseNet as SiameseNet
from fastadapt.methods.snail import SNAIL as SNAIL
from fastadapt.methods.statistician import NeuralStatistician as NeuralStatistician
from fastadapt.methods.subspaces import AdaptiveSubspaces as AdaptiveSubspaces
from fastadapt.methods.ttt import TTT as TTT
from fastadapt.methods.tuning import tune_transfer as tune_transfer
