"""Accuracy predictors: scikit-learn estimators over features of genomes."""
