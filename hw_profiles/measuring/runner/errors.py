"""Errors that the user can correct."""

from __future__ import annotations


class RunnerError(ValueError):
    """An error that the user can correct; printed as one line, exit code 2."""
