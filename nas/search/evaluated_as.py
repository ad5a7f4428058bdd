"""In which precision the metrics of a row hold."""

EVALUATED_AS = "evaluated_as"
"""Column of results: `fp32 accuracy`, `int8 accuracy`."""


def accuracy_in(precision: str) -> str:
    """The column's value for a precision."""
    return f"{precision} accuracy"
