"""Search algorithms; all of them ask for subnets and are told their metrics."""

from nas.optimizers.base import Optimizer as Optimizer
from nas.optimizers.base import OptimizerFactory as OptimizerFactory
from nas.optimizers.base import Task as Task
from nas.optimizers.iterative import IterativeSearch
from nas.optimizers.nsga2 import RealEvolution
from nas.optimizers.predictor_once import PredictorOnce
from nas.optimizers.random_search import RandomSearch

SEARCH_ALGORITHMS: dict[str, OptimizerFactory] = {
    "iterative": IterativeSearch,
    "predictor": PredictorOnce,
    "nsga2": RealEvolution,
    "random": RandomSearch,
}
