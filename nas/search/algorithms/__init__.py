"""Search algorithms; all of them ask for subnets and are told their metrics."""

from nas.search.algorithms.base import Optimizer as Optimizer
from nas.search.algorithms.base import OptimizerFactory as OptimizerFactory
from nas.search.algorithms.base import Task as Task
from nas.search.algorithms.coarse_to_fine import CoarseToFine
from nas.search.algorithms.exact import ExactSearch
from nas.search.algorithms.iterative import IterativeSearch
from nas.search.algorithms.linas import Linas
from nas.search.algorithms.nsga2 import RealEvolution
from nas.search.algorithms.predictor_once import PredictorOnce
from nas.search.algorithms.random_search import RandomSearch
from nas.search.algorithms.regularized import RegularizedEvolution

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
