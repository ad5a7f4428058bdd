"""The table of published vision transformers in the docs."""

from pathlib import Path

import pytest

from benchmarks import hybrid_table
from benchmarks.hybrid_table import HybridRow
from benchmarks.transformer_table import Row, page, rows

DOCS = Path(__file__).parent.parent / "docs" / "transformers.md"


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: f"{row.name} @{row.arch['resolution']}")
def test_counts_equal_the_published_ones(row: Row) -> None:
    assert row.space.params(row.arch) == row.params
    assert not row.macs or row.macs_here == row.macs


@pytest.mark.parametrize("row", list(hybrid_table.rows()), ids=lambda row: row.name)
def test_counts_by_the_rules_of_the_authors_equal_theirs(row: HybridRow) -> None:
    assert row.count_here == row.published


def test_relative_positions_add_two_products_per_pair_of_tokens() -> None:
    by_name = {row.name: row for row in rows()}
    # 197 tokens; AutoFormer-T has 40 heads of 64 channels in 13 blocks: 2 · 197² · 40 · 64 = 0.1987 G
    assert by_name["AutoFormer-T"].macs_with_positions == f"{1.2832 + 0.1987:.4f}"
    assert by_name["DeiT-Ti"].macs_with_positions == ""


def test_page_in_the_docs_is_up_to_date() -> None:
    assert DOCS.read_text() == page(), (
        "run python -m benchmarks.transformer_table --write docs/transformers.md"
    )
