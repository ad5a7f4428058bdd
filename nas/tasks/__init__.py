"""Tasks: the meaning of the outputs of a network."""

from collections.abc import Mapping

from nas import plugins
from nas.tasks.base import Task
from nas.tasks.classification import Classification

TASKS: Mapping[str, Task] = {"classification": Classification()}
"""Tasks of the toolkit by name, as in recipes and runs."""


def get(name: str, *, allow_import: bool = False) -> Task:
    """The task of this name.

    Args:
        name: a key of `TASKS`, or `module:object` of a user's own `Task`.
        allow_import: whether `module:object` may be imported, see `nas.plugins.resolve`.

    Raises:
        ValueError: unknown name, or an object that is no task.
    """
    return plugins.resolve("task", name, TASKS, Task, allow_import=allow_import)


__all__ = ["TASKS", "Task", "get"]
