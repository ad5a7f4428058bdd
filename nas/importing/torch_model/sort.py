"""Order of the channels and heads of a converted network by the change of the loss."""

from __future__ import annotations

import numpy as np
import torch

from nas import tasks
from nas.data.clean_images import clean_images
from nas.data.dataset import Dataset
from nas.recipes.groups import OrderingConfig
from nas.torch_backend.coupled_channels import elastic_channels
from nas.torch_backend.importance import sort_units, taylor_importance
from nas.torch_backend.supernet import Supernet


def sort_by_taylor(supernet: Supernet, dataset: Dataset) -> None:
    """Sort channels and heads by the change of the loss if one were removed, in place.

    Args:
        supernet: its largest subnet is the network.
        dataset: its training images are used.
    """
    space = supernet.space
    groups = elastic_channels(space)
    rng, n_images = np.random.default_rng(0), OrderingConfig().images
    images = clean_images(dataset, space.image_size(space.largest), n_images, rng, torch.device("cpu"))
    loss = tasks.get("classification").loss
    sort_units(supernet, groups, taylor_importance(supernet, groups, images, loss))
