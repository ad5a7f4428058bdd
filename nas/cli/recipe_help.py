"""The keys of recipes in `nas train --help`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from nas.cli.no_effect import Command

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from nas.recipes.keys import Group

Row = tuple[str, str]
"""A key with its default, and its description."""


class ExplainsRecipe(Command):
    """A command whose help lists every key of a recipe with its default and its description."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """See `typer.core.TyperCommand`; `ctx` and `formatter` are objects of the copy of click inside
        typer."""
        from nas.recipes import recipe  # imported here to keep other commands fast

        super().format_help(ctx, formatter)
        with formatter.section("Shipped recipes"):
            formatter.write(f"  {', '.join(recipe.names())}\n")
        for title, rows in recipe_sections(recipe.Recipe):
            with formatter.section(title):
                formatter.write_dl(rows)


def recipe_sections(recipe: type[Group]) -> Iterator[tuple[str, list[Row]]]:
    """The keys of a recipe by group: the title of the group and its rows."""
    from nas.recipes.keys import KIND, kinds

    fields = recipe.model_fields
    plain = [_row(name, field) for name, field in fields.items() if not kinds(field)]
    yield "Keys of a recipe", plain
    for name, field in fields.items():
        alternatives = kinds(field)
        groups = list(dict.fromkeys(alternatives.values()))
        if len(groups) == 1:
            rows = [_row(f"{name}.{key}", item) for key, item in groups[0].model_fields.items()]
            yield _title(name, groups[0].__doc__), rows
        elif groups:
            default = f"{name}.{KIND}={getattr(field.default, KIND)}"
            rows = [(default, f"One of {', '.join(alternatives)}.")]
            for group in groups:
                named = [kind for kind, member in alternatives.items() if member is group]
                about = group.model_fields[KIND].description or group.__doc__ or ""
                rows.append((f"  {', '.join(named)}", about))
                rows += [
                    _row(f"    {name}.{key}", item) for key, item in group.model_fields.items() if key != KIND
                ]
            yield _title(name, field.description), rows


def _title(name: str, about: str | None) -> str:
    return f"{name}: {(about or '').rstrip('.')}"


def _row(name: str, field: FieldInfo) -> Row:
    """A key and its description; the key looks like `epochs` if it is required, else like `optimizer.lr=0.1`,
    or `data.root=` if the default is empty."""
    if field.is_required():
        return name, _description(field)
    default = field.get_default(call_default_factory=True)
    return f"{name}={'' if default in (None, (), {}) else default}", _description(field)


def _description(field: FieldInfo) -> str:
    options = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    listed = f" One of {', '.join(map(str, options))}." if len(options) > 1 else ""
    return f"{field.description}{listed}"
