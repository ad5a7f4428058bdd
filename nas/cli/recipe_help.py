"""`nas train --help` explains the keys of recipes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from nas.cli.no_effect import Command

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


class ExplainsRecipe(Command):
    """A command whose help ends with every key of a recipe, its default and what it means."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """See `typer.core.TyperCommand`; the arguments are those of typer's own copy of click."""
        from nas.recipes import recipe  # not at the top: other commands need not wait for it

        super().format_help(ctx, formatter)
        fields = recipe.Recipe.model_fields
        with formatter.section(f"Recipes that are shipped: {', '.join(recipe.names())}. Keys of a recipe"):
            formatter.write_dl(
                [(_with_default(name, fields[name]), _meaning(fields[name])) for name in fields]
            )


def _with_default(name: str, field: FieldInfo) -> str:
    """`epochs`, `lr=0.1`, or `teachers=` where there is none."""
    if field.is_required():
        return name
    empty = field.default is None or field.default == ()
    return f"{name}={'' if empty else field.default}"


def _meaning(field: FieldInfo) -> str:
    options = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    listed = f" One of {', '.join(map(str, options))}." if len(options) > 1 else ""
    return f"{field.description}{listed}"
