"""Search algorithms; all of them ask for subnets and are told their metrics."""

from nas.optimizers.base import Optimizer as Optimizer
from nas.optimizers.base import OptimizerFactory as OptimizerFactory
from nas.optimizers.base import Task as Task
from nas.optimizers.coarse_to_fine import CoarseToFine
from nas.optimizers.exact import ExactSearch
from nas.optimizers.iterative import IterativeSearch
from nas.optimizers.linas import Linas
from nas.optimizers.nsga2 import RealEvolution
from nas.optimizers.predictor_once import PredictorOnce
from nas.optimizers.random_search import RandomSearch
from nas.optimizers.regularized import RegularizedEvolution

SEARCH_ALGORITHMS: dict[str, OptimizerFactory] = {
    "iterative": IterativeSearch,
    "exact": ExactSearch,
    "predictor": PredictorOnce,
    "linas": Linas,
    "nsga2": RealEvolution,
    "regularized_evolution": RegularizedEvolution,
    "coarse_to_fine": CoarseToFine,
    "random": RandomSearch,
}
