"""Commands that make missing results."""

from __future__ import annotations

TRAIN = "nas train --config recipe.yaml --out RUN"
EVALUATE = "nas evaluate RUN"
PROFILE = "nas profile RUN --device NAME"
SEARCH = "nas search RUN --device NAME"
EXPORT = "nas export RUN"
REPORT = "nas report RUN"
