"""Images and targets: which there are, how they are split, and how they become tensors.

Free of torch, so that preparing an image needs numpy and Pillow alone. `nas.data.catalog` finds a data set
by name, `nas.data.batches` makes the batches that training and evaluation consume.
"""

from nas.data.dataset import Augment, Dataset, ImageDataset, ImageOnly, Split, SplitName
from nas.data.preprocess import Preprocess, RawImage

__all__ = ["Augment", "Dataset", "ImageDataset", "ImageOnly", "Preprocess", "RawImage", "Split", "SplitName"]
