"""The order that a client asks for, out of what the endpoint lists."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Annotated, Any, TypeAlias

from fastapi import Query
from fastapi.params import Depends
from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from fastapi_kit.errors import ConfigurationError, needs_extra
from fastapi_kit.pagination.columns import expression_of
from fastapi_kit.pagination.order import OrderKey

with needs_extra("pagination"):
    from sqlalchemy import SQLColumnExpression, UnaryExpression

__all__ = ["Ordering", "SortColumn", "sort_by"]

SortColumn: TypeAlias = SQLColumnExpression[Any]
"""What a client may sort by: an attribute of an entity, a column, any expression of them."""

Ordering: TypeAlias = Sequence[UnaryExpression[Any]]
"""The clauses for `select(...).order_by(*sort)`; none where neither client nor endpoint says."""


def sort_by(
    columns: Mapping[str, SortColumn | Sequence[SortColumn]],
    *,
    default: str | Sequence[str] = (),
    max_words: int | None = None,
    name: str = "sort",
) -> Depends:
    """Return the dependency that reads `?sort=-created,name`, for `Annotated[Ordering, ...]`.

    It runs on the event loop. A client sorts by what is listed and by nothing else: an order that no index
    has can cost a scan of the table, and one by a secret column tells what is in it. `?sort=-created&sort=name`
    says the same; a leading "-" turns the direction round.

    `columns`: a word for each order, and the expression that it stands for, or several, the first the most
    significant. One may be `.desc()` itself, which "-" then turns to ascending, and may say where its NULLs go:
    `Book.rating.nulls_last()` keeps them last in both directions. `default`: words for a client that gives none,
    as in the query. `max_words`: how many a client may combine, 1 or more; all where it is None. 1 keeps to the orders
    that have an index. `name`: of the query parameter. All words are in the OpenAPI, as an enum.

    Raises `ConfigurationError` at once for no columns, for a word that is empty or has a comma, white space or a
    leading "-", for what cannot be ordered by (a string, `text()`, a relationship), and for a default that is not
    listed. A client is answered 422, with the words that are, for an unknown, an empty or a repeated one.

    >>> from typing import Annotated
    >>> from sqlalchemy import column
    >>> from fastapi_kit.pagination import Ordering, sort_by
    >>> listed = {"title": column("title"), "created": column("created")}
    >>> Sort = Annotated[Ordering, sort_by(listed, default="-created")]
    """
    clauses = _clauses(columns)
    if not name:
        raise ConfigurationError("the query parameter that sorts needs a name")
    most = len(columns) if max_words is None else max_words
    if most < 1:
        raise ConfigurationError(f"max_words={max_words} must be 1 or more")
    how_many = "" if max_words is None else f", {max_words} at most"
    hint = f"Sort by {', '.join(columns)}: each once at most{how_many}, with - before it to turn its direction round"
    read, read_default = (_reader(clauses.keys(), words, hint) for words in (most, len(columns)))
    try:
        by_default = read_default([default] if isinstance(default, str) else list(default)) if default else []
    except PydanticCustomError:
        raise ConfigurationError(f"default={default!r} is no order that a client could ask for. {hint}.") from None
    parameter = Query(
        alias=name,
        description="What to sort by, the most significant first; with - before it in the opposite direction.",
    )
    schema = {"type": "array", "items": {"type": "string", "enum": list(clauses)}}

    async def read_sort(
        kit_sort: Annotated[list[str] | None, AfterValidator(read), WithJsonSchema(schema), parameter] = by_default
        or None,
    ) -> Ordering:
        return [clause for word in kit_sort or () for clause in clauses[word]]

    return Depends(read_sort)


def _clauses(columns: Mapping[str, SortColumn | Sequence[SortColumn]]) -> dict[str, Ordering]:
    if not columns or not isinstance(columns, Mapping):
        raise ConfigurationError("sort_by() needs words and columns, such as {'title': Book.title}")
    clauses: dict[str, Ordering] = {}
    for word, listed in columns.items():
        if word.split() != [word] or word.startswith("-") or "," in word:
            raise ConfigurationError(
                f"{word!r} is no word to sort by: it must not be empty, start with - or have a comma or white space"
            )
        several = listed if isinstance(listed, list | tuple) else [listed]
        if not several:
            raise ConfigurationError(f"there is no column to sort {word!r} by")
        keys = [OrderKey.of(expression_of(column, f"sort_by({word!r})")) for column in several]
        clauses[word] = [key.clause() for key in keys]
        # NULLs stay where the endpoint puts them, which OrderKey.reversed() would not do
        clauses[f"-{word}"] = [replace(key, descending=not key.descending).clause() for key in keys]
    return clauses


def _reader(words: Set[str], at_most: int, hint: Any) -> Callable[[list[str]], list[str]]:
    # Any, since Pydantic wants a literal: one of a client's making could have braces to fill in
    def read(parts: list[str]) -> list[str]:
        # one more than may be is enough to refuse them
        asked = [word for part in parts[: at_most + 1] for word in part.split(",", at_most)]
        is_repeated = len({word.removeprefix("-") for word in asked}) < len(asked)
        if is_repeated or len(asked) > at_most or not words >= set(asked):
            raise PydanticCustomError("sort", hint)
        return asked

    return read
