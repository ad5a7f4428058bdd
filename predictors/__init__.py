"""Accuracy predictors: scikit-learn estimators over features of genomes."""

from predictors.additive import AdditiveFit as AdditiveFit
from predictors.additive import fit_additive as fit_additive
from predictors.correlation import Agreement as Agreement
from predictors.correlation import agreement as agreement
from predictors.correlation import tau as tau
from predictors.estimators import CANDIDATES as CANDIDATES
from predictors.estimators import PREDICTORS as PREDICTORS
from predictors.estimators import PredictorFactory as PredictorFactory
from predictors.estimators import Regressor as Regressor
from predictors.features import Features as Features
from predictors.model import MetricModel as MetricModel
from predictors.selection import CrossValidated as CrossValidated
from predictors.selection import cross_validate as cross_validate
from predictors.selection import fit_best as fit_best
