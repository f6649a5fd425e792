"""Places in a list, and which rows are asked for from there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["BACKWARDS", "Position", "Reach", "neighbours"]

Reach = Literal["after", "before", "from", "until"]
"""Which rows a position asks for: those after or before it, or from or until it with its own row."""

BACKWARDS: frozenset[Reach] = frozenset({"before", "until"})
_TURNED: Mapping[Reach, Reach] = {"after": "until", "from": "before", "before": "from", "until": "after"}
"""What asks, at the same place, for all other rows."""


@dataclass(frozen=True, slots=True)
class Position:
    """The values that a row has in the columns of the order, and which rows are asked for from there.

    `is_key`: they are those that tell the row apart from all others, in place of the order, and its place is looked up.
    """

    values: tuple[Any, ...]
    reach: Reach
    is_key: bool = False


def neighbours(
    position: Position | None, places: Sequence[tuple[Any, ...]], *, has_more: bool
) -> tuple[Position | None, Position | None]:
    """Return the positions of the page before and of the page after the one at a position, None where there is none.

    An empty page turns round at its own place: the row there, which it left out, is where the way back begins.
    """
    is_backwards = position is not None and position.reach in BACKWARDS
    turned = position and Position(position.values, _TURNED[position.reach])
    behind = Position(tuple(places[0]), "before") if places else turned
    ahead = Position(tuple(places[-1]), "after") if places else turned
    if is_backwards:
        return (behind if has_more else None), ahead
    return (behind if position else None), (ahead if has_more else None)
