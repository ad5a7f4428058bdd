"""Search algorithms with an ask-and-tell interface, by name."""

from nas.search.algorithms.base import Optimizer as Optimizer
from nas.search.algorithms.base import OptimizerFactory as OptimizerFactory
from nas.search.algorithms.base import SearchTask as SearchTask
from nas.search.algorithms.coarse_to_fine import CoarseToFine
from nas.search.algorithms.exact import ExactSearch
from nas.search.algorithms.iterative import IterativeSearch
from nas.search.algorithms.linas import Linas
from nas.search.algorithms.nsga2 import NSGA2Search
from nas.search.algorithms.one_shot_predictor import OneShotPredictorSearch
from nas.search.algorithms.random_search import RandomSearch
from nas.search.algorithms.regularized import RegularizedEvolution

SEARCH_ALGORITHMS: dict[str, OptimizerFactory] = {
    "iterative": IterativeSearch,
    "exact": ExactSearch,
    "predictor": OneShotPredictorSearch,
    "linas": Linas,
    "nsga2": NSGA2Search,
    "regularized_evolution": RegularizedEvolution,
    "coarse_to_fine": CoarseToFine,
    "random": RandomSearch,
}
