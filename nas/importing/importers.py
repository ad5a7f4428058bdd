"""Loading of published supernets and pretrained networks.

The importers of a family differ only in data: the names of the tensors in the checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import search_spaces
from nas.importing.fit import read_as
from nas.importing.hybrid_checkpoint import load_hybrid
from nas.importing.hybrid_sources import SOURCES as HYBRID_SOURCES
from nas.importing.published_names import (
    ATTENTIVENAS_ENDS,
    MBCONV,
    MOBILENET_V3_ENDS,
    PROXYLESS_ENDS,
    RESNET,
    RESNET_ENDS,
    UNUSED,
    network_modules,
)
from nas.importing.specialised import load_specialised as load_specialised
from nas.importing.vit_checkpoint import load_vit
from nas.importing.vit_sources import SOURCES as VIT_SOURCES
from nas.torch_backend.supernet import Supernet
from search_spaces import Space


def load_supernet(source: str, path: str | Path, space_name: str, *, key: str | None = None) -> Supernet:
    """Load the supernet of a checkpoint of another tool, in eval mode.

    The supernet has the running statistics of the file. The statistics in files of AttentiveNAS and NASViT
    were never updated (see `has_statistics`); recalibrate the batch norms of a subnet before use. A network
    of torchvision or timm becomes the largest subnet of the space.

    Args:
        source: name of the tool, a key of `SOURCES`.
        path: the file; for OFA, with old or new names of tensors.
        space_name: name of the space of the checkpoint; for transformers, also a YAML file.
        key: key of the weights in the file, such as `state_dict_ema`; None: the weights that the tool itself
            loads.

    Raises:
        ValueError: unknown source or space, unreadable file, or tensors that do not match; the message lists
            them.
    """
    if source not in SOURCES:
        raise ValueError(f"the source of a checkpoint must be one of {sorted(SOURCES)}, got {source!r}")
    return SOURCES[source](path, space_name, key)


def _load_published(
    source: str,
    spaces: Mapping[str, Published],
    path: str | Path,
    space_name: str,
    key: str | None,
) -> Supernet:
    if space_name not in spaces:
        raise ValueError(
            f"the space of a checkpoint of {source} must be one of {sorted(spaces)}, got {space_name!r}"
        )
    space, published = search_spaces.get(space_name), spaces[space_name]
    supernet = Supernet(space)
    modules = published.modules(space)
    supernet.load_state_dict(read_as(path, supernet.state_dict(), modules, published.unused, key))
    return supernet.eval()


def has_statistics(supernet: Supernet) -> bool:
    """Whether all batch norms are calibrated; False if all their means are 0 and all variances are 1."""
    buffers = list(supernet.named_buffers())
    return not buffers or any(
        bool((buffer != float(name.endswith("running_var"))).any()) for name, buffer in buffers
    )


@dataclass(frozen=True)
class Published:
    """Names of tensors in the checkpoints of a space."""

    modules: Callable[[Space], Mapping[str, str]]
    """As for `nas.importing.published_names.published_name`."""
    unused: str = UNUSED
    """Pattern of the canonical names of tensors that are not used; other surplus tensors are errors."""


def _modules(roles: Mapping[str, str], ends: Mapping[str, str], space: Space) -> Mapping[str, str]:
    return network_modules(roles, ends, [slot.name for slot in space.slots if slot.stage is not None])


OFA: Mapping[str, Published] = {
    "ofa-mbv3-w1.0": Published(partial(_modules, MBCONV, MOBILENET_V3_ENDS)),
    "ofa-mbv3-w1.2": Published(partial(_modules, MBCONV, MOBILENET_V3_ENDS)),
    "ofa-proxyless-w1.3": Published(partial(_modules, MBCONV, PROXYLESS_ENDS)),
    "ofa-resnet50": Published(partial(_modules, RESNET, RESNET_ENDS)),
}
ATTENTIVENAS: Mapping[str, Published] = {
    "attentivenas": Published(
        partial(_modules, MBCONV, ATTENTIVENAS_ENDS),
        # 1x1 convolutions in shortcuts between equal widths are never executed
        unused=rf"{UNUSED}|^blocks\.\d+\.shortcut\.",
    )
}
Loader = Callable[[str | Path, str, str | None], Supernet]
"""Loads a supernet; the arguments are the file, the name of the space and the key of the weights."""

SOURCES: Mapping[str, Loader] = {
    "ofa": partial(_load_published, "ofa", OFA),
    "attentivenas": partial(_load_published, "attentivenas", ATTENTIVENAS),
    **{source: partial(load_vit, source) for source in VIT_SOURCES},
    **{source: partial(load_hybrid, source) for source in HYBRID_SOURCES},
}
"""The tools whose checkpoints can be loaded."""
SINGLE_NETWORKS = {"torchvision", "timm", "torch"}
"""Sources of networks instead of supernets: only the largest subnet was trained."""
