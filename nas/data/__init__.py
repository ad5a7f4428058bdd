"""Data sets: images with targets, their splits, and preprocessing.

Importing this package does not import torch, so preprocessing needs only numpy and Pillow. `nas.data.catalog`
finds a data set by name, and `nas.data.batches` makes the batches of training and evaluation.
"""

from nas.data.dataset import Augment, Dataset, ImageDataset, ImageOnly, Split, SplitName
from nas.data.preprocess import Preprocess, RawImage

__all__ = ["Augment", "Dataset", "ImageDataset", "ImageOnly", "Preprocess", "RawImage", "Split", "SplitName"]
