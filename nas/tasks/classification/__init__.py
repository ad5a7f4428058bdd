"""Classification: one class for each image."""

from nas.tasks.classification.task import Classification

__all__ = ["Classification"]
