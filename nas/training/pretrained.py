"""The start of an elastic training from pretrained weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nas.data.clean_images import clean_images
from nas.data.dataset import Dataset
from nas.recipes.recipe import Recipe
from nas.tasks import Task
from nas.torch_backend.block_rank import rank_blocks
from nas.torch_backend.coupled_channels import elastic_channels
from nas.torch_backend.functional import run_network
from nas.torch_backend.importance import Batches, Loss, norm_importance, sort_units, taylor_importance
from nas.torch_backend.supernet import Supernet
from nas.training.loaders import rng_of
from nas.training.transfer import Transfer, classifier_names, transfer
from search_spaces import Block, Node, Space
from search_spaces.space import RankableSpace

_log = logging.getLogger("nas")


@dataclass(frozen=True)
class Prepared:
    """The space and the weights from which a training starts."""

    space: Space
    """The space with ranked blocks."""
    weights: Mapping[str, Tensor]
    """Weights of the supernet by name, on the CPU."""
    transferred: Transfer


def prepare(
    recipe: Recipe, space: RankableSpace, dataset: Dataset, task: Task, device: torch.device
) -> Prepared:
    """Load the weights of the recipe's `init`, and sort units and rank blocks according to its `ordering`.

    The largest subnet computes the same function as before, except for rounding. Blocks are ranked unless the
    space already has a ranking.

    Raises:
        ValueError: as `transfer`, or the classifier was not loaded although the loss is needed.
    """
    if recipe.init is None:
        raise ValueError("ordering needs the key init, a run with pretrained weights")
    supernet = Supernet(space, recipe.seed, zero_init_residual=recipe.batch_norm.zero_init_residual)
    transferred = transfer(supernet, recipe.init, dataset.output_names)
    supernet.to(device).eval()
    images = ordering_images(recipe, space, dataset, device)
    trained = not classifier_names(supernet) & {*transferred.reinitialized}
    if not trained and recipe.ordering.kind == "taylor":
        raise ValueError(
            "ordering.kind taylor needs a classifier for the classes of the data set, which init does not "
            "have; give ordering.kind=norm"
        )

    def loss_of(blocks: Sequence[Block]) -> float:
        return _loss(supernet, blocks, images, task.loss)

    sort_by_importance(supernet, recipe.ordering.kind, images, task.loss)
    if trained and not space.is_ranked:
        ranking = rank_blocks(space, loss_of)
        for depth, positions in ranking.items():
            _log.info("%s: blocks by importance: %s", depth, " ".join(map(str, positions)))
        space = space.with_ranking(ranking)
    weights = {name: tensor.cpu() for name, tensor in supernet.state_dict().items()}
    return Prepared(space, weights, transferred)


def ordering_images(
    recipe: Recipe, space: Space, dataset: Dataset, device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """The batches of training images for the ordering of the recipe."""
    rng = rng_of(recipe.seed, "ordering", 0)
    return clean_images(dataset, space.image_size(space.largest), recipe.ordering.images, rng, device)


def sort_by_importance(supernet: Supernet, kind: str, images: Batches, loss: Loss) -> None:
    """Sort channels and heads in place by importance; `kind` is `norm`, `taylor` or `none` (unsorted)."""
    groups = elastic_channels(supernet.space)
    if kind == "norm":
        sort_units(supernet, groups, norm_importance(supernet, groups))
    elif kind == "taylor":
        sort_units(supernet, groups, taylor_importance(supernet, groups, images, loss))


@torch.no_grad()
def _loss(supernet: Supernet, blocks: Sequence[Block], images: Batches, loss: Loss) -> float:
    """Mean loss of a network of some blocks of the supernet."""

    def compute(node: Node, inputs: Sequence[Tensor]) -> Tensor:
        output: Tensor = supernet.operator(node)(node, inputs)
        return output

    losses = [(len(x), float(loss(run_network(blocks, x, compute, fast=True), y))) for x, y in images]
    return sum(n * loss for n, loss in losses) / sum(n for n, _ in losses)
