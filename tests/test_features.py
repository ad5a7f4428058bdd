import numpy as np

import search_spaces
from predictors.features import Features
from search_spaces import Genomes, Space
from search_spaces.operators import Add


def some(space: Space, n: int = 200) -> Genomes:
    """Random genomes that are not canonical: genes of inactive blocks have any value."""
    return np.random.default_rng(0).integers(0, space.n_options, size=(n, len(space.genes)))


def test_features_are_equal_only_for_equal_networks(space: Space) -> None:
    features, raw = Features(space), some(space)
    matrix = features(raw)
    assert matrix.shape == (200, features.n_features)
    np.testing.assert_array_equal(matrix, features(space.canonical(raw)))
    distinct = np.unique(space.canonical(raw), axis=0)
    assert len(np.unique(features(distinct), axis=0)) == len(distinct)


def test_totals_and_stage_sums_equal_the_counts_of_the_network(space: Space) -> None:
    features, genomes = Features(space), some(space, 5)
    matrix = features(genomes)
    for row, arch in zip(matrix, space.decode(genomes), strict=True):
        np.testing.assert_allclose(
            row[features.groups["total"]], np.log1p([space.macs(arch), space.params(arch)])
        )
        sums: dict[str, int] = {}
        for block in space.blocks(arch):
            part, _, rest = block.name.partition(".")
            stage = f"stage {rest.partition('.')[0]}" if part == "stages" else part
            sums[stage] = sums.get(stage, 0) + block.macs
        np.testing.assert_allclose(row[features.groups["stage.macs"]], np.log1p(list(sums.values())))


def test_columns_of_genes_depend_on_the_option_and_are_zero_for_inactive_blocks() -> None:
    space = search_spaces.get("digits")
    features = Features(space)
    genomes = space.encode([space.smallest, space.largest])
    small, large = features(genomes)
    ordinal = [group for name, group in features.groups.items() if name.startswith("ordinal")]
    # the largest option of every gene has the position n of n; all blocks of the largest subnet are active
    assert all((large[group] == 1).all() for group in ordinal)
    assert large[features.groups["one_hot"]].sum() == len(space.genes)
    alive = sum(
        gene.depth is None or gene.position < space.choices[gene.depth].options[0] for gene in space.genes
    )
    assert small[features.groups["one_hot"]].sum() == alive
    assert sum((small[group] > 0).sum() for group in ordinal) == alive


def test_shortcut_column_depends_on_the_width_choice() -> None:
    space = search_spaces.get("digits")
    features = Features(space)
    genomes = some(space, 40)
    shortcuts = features(genomes)[:, features.groups["slot.shortcut"]].sum(axis=1)
    truth = [sum(block.has(Add) for block in space.blocks(arch)) for arch in space.decode(genomes)]
    np.testing.assert_allclose(shortcuts, truth)
    assert len(set(truth)) > 1


def test_groups_cover_every_column_once() -> None:
    features = Features(search_spaces.get("cifar"))
    columns = [column for group in features.groups.values() for column in range(group.start, group.stop)]
    assert columns == list(range(features.n_features))


def test_no_genomes_give_no_rows() -> None:
    features = Features(search_spaces.get("digits"))
    none = np.zeros((0, len(features.space.genes)), dtype=np.int64)
    assert features(none).shape == (0, features.n_features)
