"""Refusal of a search among subnets that were not trained."""

from __future__ import annotations

from nas.evaluation.trained_run import TrainedRun
from nas.evaluation.workers import Workers

IMAGES = 500
"""Largest number of validation images for the message."""


def check_subnets_trained(trained: TrainedRun, workers: Workers | None = None) -> None:
    """Check that the smaller subnets of a run were trained.

    Raises:
        ValueError: the run is an imported network without trained subnets; the message has their accuracy.
    """
    imported = trained.info.imported
    if imported is None or imported.subnets_trained:
        return
    n_images = min(IMAGES, len(trained.dataset.split("validation")))
    evaluator = trained.with_validation_images(n_images).evaluator()
    headline = trained.task.headline
    archs = {"largest": trained.space.largest, "smallest": trained.space.smallest}
    results = evaluator(list(archs.values()), "evaluate", workers=workers)
    texts = [
        f"{name} {result[headline.metric]:{'.1%' if headline.percent else '.4g'}}"
        for name, result in zip(archs, results, strict=True)
    ]
    raise ValueError(
        f"the run {trained.run.path} must be trained before a search, because only its largest subnet is: "
        f"{headline.label} on {n_images} validation images: {', '.join(texts)}; run "
        f"`{trained.info.elastic_training(trained.run.path)}`"
    )
