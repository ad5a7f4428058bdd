"""The family of spaces that were made from a network: the graph of the network, with choices.

The file of a space holds the whole graph, block by block, so that networks can be built without the code of
the original network.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

import yaml

from search_spaces.arch import Value
from search_spaces.choices import Choice, listed
from search_spaces.families.traced_config import OUTPUTS, BlockRow, ChoiceRow, NodeRow, per_option
from search_spaces.families.traced_config import TracedConfig as TracedConfig
from search_spaces.families.traced_operators import Template, template
from search_spaces.graph import BLOCK_INPUT, Block, Node
from search_spaces.operators import Add
from search_spaces.space import RankableSpace, Slot
from search_spaces.tensors import TensorSpec, image, vector

RESOLUTION: Literal["resolution"] = "resolution"
_Row = TypeVar("_Row", ChoiceRow, BlockRow)
MAX_BLOCKS = 10_000
"""Maximum number of blocks that a slot can hold."""


class TracedSpace(RankableSpace):
    """A space that was made from a network."""

    config: TracedConfig

    def __init__(self, config: TracedConfig) -> None:
        choices = [
            Choice(RESOLUTION, RESOLUTION, config.resolutions),
            *(row.choice for row in config.choices),
        ]
        super().__init__(config, choices, list(_slots(config, {choice.name: choice for choice in choices})))

    @property
    def is_ranked(self) -> bool:
        """See `RankableSpace`."""
        return any(order != sorted(order) for order in self._positions().values())

    @property
    def unranked(self) -> TracedSpace:
        """See `RankableSpace`."""
        return self.with_ranking(self._positions())

    def _positions(self) -> dict[str, list[int]]:
        """For each depth, the positions of its blocks in the order of the network."""
        positions: dict[str, list[int]] = {}
        for slot in self.slots:
            if slot.depth is not None:
                positions.setdefault(slot.depth, []).append(slot.position)
        return positions

    def with_ranking(self, ranking: Mapping[str, Sequence[int]]) -> TracedSpace:
        """See `RankableSpace`."""
        moves = {
            (depth, position): new
            for depth, order in ranking.items()
            for position, new in zip(order, sorted(order), strict=True)
        }

        def moved(row: _Row) -> _Row:
            position = moves.get((row.depth or "", row.position), row.position)
            return row.model_copy(update={"position": position})

        update = {
            "choices": tuple(map(moved, self.config.choices)),
            "blocks": tuple(map(moved, self.config.blocks)),
        }
        return TracedSpace(self.config.model_copy(update=update))

    def stages(self) -> list[dict[str, str]]:
        """See `Space.stages`."""
        blocks = {block.name: block for block in self.blocks(self.largest)}
        rows = []
        for part, group in itertools.groupby(self.slots, key=lambda slot: slot.part):
            slots = list(group)
            names = {slot.depth for slot in slots} | {name for slot in slots for name in slot.choices}
            own = [choice for choice in self.choices.values() if choice.name in names and choice.part == part]
            rows.append(
                {
                    "stage": part,
                    "blocks": str(len(slots)),
                    "depth": _options(own, "depth"),
                    "expand": _options(own, "expand"),
                    "heads": _options(own, "heads"),
                    "width": _options(own, "width"),
                    "output": str(blocks[slots[-1].name].output_specs[0]),
                }
            )
        unused = [key for key in rows[0] if not any(row[key] for row in rows)]
        return [{key: value for key, value in row.items() if key not in unused} for row in rows]

    def to_yaml(self) -> str:
        """The space as YAML text, without defaults."""
        content = self.config.model_dump(mode="json", exclude_defaults=True)
        return yaml.dump(content, Dumper=_DUMPER, sort_keys=False, default_flow_style=None, width=1000)


_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def _options(choices: Sequence[Choice], kind: str) -> str:
    """The different options of all choices of a kind."""
    return ", ".join(dict.fromkeys(listed(c.options) for c in choices if c.kind == kind))


class _BlockTemplate:
    """Builds a block for any values of its choices.

    Args:
        row: description of the block in the file of the space.
        choices: all choices of the space by name.
        config: content of the file.

    Raises:
        ValueError: the row is not valid; the message names the node.
    """

    def __init__(self, row: BlockRow, choices: Mapping[str, Choice], config: TracedConfig) -> None:
        self.row = row
        self.nodes = [_NodeTemplate(node, choices, config.outputs) for node in row.nodes]
        self._channels = _Variants(config.channels if row.channels is None else row.channels, choices)
        names = (self._channels.names, *(node.names for node in self.nodes))
        self.names = tuple(dict.fromkeys(name for own in names for name in own))
        """Names of the choices that determine the block, in addition to the resolution."""

    def input(self, size: tuple[int, ...], values: Mapping[str, Value]) -> TensorSpec:
        """Spec of the input."""
        return TensorSpec(self.row.layout, self._channels(values), size)

    def build(self, source: TensorSpec, values: Mapping[str, Value]) -> Block:
        """The block for an input.

        Raises:
            ValueError: the nodes do not fit together, or the input is too small; the message names the node.
        """
        nodes: list[Node] = []
        for i, node in enumerate(self.nodes):
            inputs = node.row.inputs or (i - 1,)
            if not all(BLOCK_INPUT <= j < i for j in inputs):
                raise ValueError(f"{node.row.name}: inputs must be indices of earlier nodes, got {inputs}")
            specs = tuple(source if j == BLOCK_INPUT else nodes[j].output for j in inputs)
            nodes.append(node.build(inputs, specs, values))
        return Block(self.row.name, (source,), tuple(nodes), (len(nodes) - 1,))


class _NodeTemplate:
    """Builds a node for any values of its choices.

    Args:
        row: description of the node in the file of the space.
        choices: all choices of the space by name.
        outputs: number of outputs of the space.
    """

    def __init__(self, row: NodeRow, choices: Mapping[str, Choice], outputs: int) -> None:
        self.row = row
        constant: dict[str, Any] = {}
        dependent: dict[str, _Variants] = {}
        try:
            for name, value in row.fields.items():
                variants = _Variants(outputs if value == OUTPUTS else value, choices)
                if variants.names:
                    dependent[name] = variants
                else:
                    constant[name] = variants({})
            self.names = tuple(dict.fromkeys(name for own in dependent.values() for name in own.names))
            self._templates: dict[tuple[Value, ...], Template] = {}
            for options in itertools.product(*(choices[name].options for name in self.names)):
                values = dict(zip(self.names, options, strict=True))
                fields = {name: variants(values) for name, variants in dependent.items()}
                self._templates[options] = template(row.op, constant | fields)
        except ValueError as error:
            raise ValueError(f"{row.name}: {error}") from None

    def build(
        self, inputs: tuple[int, ...], specs: tuple[TensorSpec, ...], values: Mapping[str, Value]
    ) -> Node:
        """The node for inputs with these specs."""
        row = self.row
        try:
            op = self._templates[tuple(values[name] for name in self.names)].operator(*specs)
            node = Node(op, row.name, "", inputs, specs)
            output = node.output
        except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
            raise ValueError(f"{row.name}: {row.op} does not fit its inputs: {error}") from None
        if output.channels < 1 or any(side < 1 for side in output.size):
            raise ValueError(f"{row.name}: the images are too small: its output is {output}")
        if isinstance(op, Add) and specs[0] != specs[1]:
            raise ValueError(f"{row.name}: the tensors of a sum must be equal, got {specs[0]} and {specs[1]}")
        return node


class _Variants:
    """A value that may depend on a choice.

    Raises:
        ValueError: there is no such choice, or the number of values is wrong.
    """

    def __init__(self, value: object, choices: Mapping[str, Choice]) -> None:
        found = per_option(value)
        self.names: tuple[str, ...] = ()
        if found is None:
            self._value = value
            return
        name, values = found
        if name not in choices:
            raise ValueError(f"a value must depend on one of the choices, got {name!r}")
        if len(values) != len(choices[name].options):
            raise ValueError(f"{name} has {len(choices[name].options)} options, got {len(values)} values")
        self.names = (name,)
        self._values = dict(zip(choices[name].options, values, strict=True))

    def __call__(self, values: Mapping[str, Value]) -> Any:
        return self._values[values[self.names[0]]] if self.names else self._value


def _slots(config: TracedConfig, choices: Mapping[str, Choice]) -> Iterator[Slot]:
    blocks = [_BlockTemplate(row, choices, config) for row in config.blocks]
    _check_names([row.name for row in config.choices], "choices")
    _check_names([row.name for row in config.blocks], "blocks")
    _check_names([node.name for row in config.blocks for node in row.nodes], "nodes")
    for name, depth in [(row.name, row.depth) for rows in (config.choices, config.blocks) for row in rows]:
        if depth is not None and depth not in choices:
            raise ValueError(f"{name}: depth must be the name of a choice, got {depth!r}")
    sizes = _sizes(config, blocks, choices)
    for i, block in enumerate(blocks):
        names = (RESOLUTION, *(name for name in block.names if name != RESOLUTION))
        if math.prod(len(choices[name].options) for name in names) > MAX_BLOCKS:
            raise ValueError(f"{block.row.name}: its choices must have at most {MAX_BLOCKS} combinations")
        inputs = {resolution: of_blocks[i] for resolution, of_blocks in sizes.items()}
        build = partial(_build, block, names, inputs)
        yield Slot(block.row.name, names, build, block.row.stage, block.row.depth, block.row.position)


def _build(
    block: _BlockTemplate, names: Sequence[str], sizes: Mapping[int, tuple[int, ...]], *options: Value
) -> Block:
    values = dict(zip(names, options, strict=True))
    return block.build(block.input(sizes[int(values[RESOLUTION])], values), values)


def _sizes(
    config: TracedConfig, blocks: Sequence[_BlockTemplate], choices: Mapping[str, Choice]
) -> dict[int, list[tuple[int, ...]]]:
    """Size of the input of each block for each resolution.

    Raises:
        ValueError: the blocks do not fit together, with the largest or with the smallest options.
    """
    sizes: dict[int, list[tuple[int, ...]]] = {}
    for resolution, option in itertools.product(config.resolutions, (0, -1)):
        values = {name: choice.options[option] for name, choice in choices.items()}
        values[RESOLUTION] = resolution
        spec, of_blocks = image(config.channels, resolution), []
        for block in blocks:
            expected = block.input(spec.size, values)
            if expected != spec:
                raise ValueError(
                    f"{block.row.name}: its input must be the output of the block before it, {spec}, "
                    f"got {expected}"
                )
            of_blocks.append(spec.size)
            output = block.build(spec, values).output_specs[0]
            if block.row.depth is not None and output != spec:
                raise ValueError(
                    f"{block.row.name}: a block that a depth can skip must keep the shape of its input, "
                    f"got {spec} and {output}"
                )
            spec = output
        if spec != vector(config.outputs):
            raise ValueError(f"the output must be a vector of {config.outputs} numbers, got {spec}")
        sizes[resolution] = of_blocks
    return sizes


def _check_names(names: Sequence[str], kind: str) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"the names of the {kind} must be different, got {repeated[0]!r} twice")
