"""Writing and reading cursors: the kit against base64 of JSON, which protects nothing, in turns.

A position is that of a page ordered by a title, a moment and a key. Each is written and read over and over in blocks;
nothing is cached on either side. What the kit does beyond is to encrypt, to authenticate, to keep the types of values
by itself, and to refuse all texts but one.
"""

import gc
import json
import secrets
import statistics
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi_kit.pagination.cursors import Cursors
from fastapi_kit.pagination.positions import Position

BLOCKS = 400
CALLS_IN_A_BLOCK = 25

VALUES = (
    "A Room of One's Own",
    datetime(2026, 11, 21, 17, 13, 6, 123456, tzinfo=UTC),
    UUID("0197f1a2-3b4c-7d5e-8f60-718293a4b5c6"),
)
CONTEXT = "GET /shops/{shop}/books shop=17&status=new -title,created,id"

Call = Callable[[], object]


@dataclass(frozen=True)
class Result:
    """Medians over all blocks: µs a call by hand and of the kit; `aim_us` is what the kit may take, if anything."""

    name: str
    aim_us: float | None
    hand_us: float
    kit_us: float
    ratio: float


def measure() -> Iterator[Result]:
    """Yield how the kit compares to the cursor by hand: to write one, and to read one of two keys."""
    new, middle, old = (secrets.token_bytes(64) for _ in range(3))
    cursors, position = Cursors(new, middle, old), Position(VALUES, "after")
    newest, third = (Cursors(secret).encode(position, CONTEXT) for secret in (new, old))
    by_hand = _write_by_hand(VALUES)
    if not position == cursors.decode(newest, CONTEXT) == cursors.decode(third, CONTEXT):
        raise RuntimeError("the kit read another position than it wrote")
    if _read_by_hand(by_hand) != VALUES:
        raise RuntimeError("the cursor by hand is read as another than was written")
    yield _compare("encode", None, lambda: _write_by_hand(VALUES), lambda: cursors.encode(position, CONTEXT))
    yield _compare("decode", 20, lambda: _read_by_hand(by_hand), lambda: cursors.decode(newest, CONTEXT))
    yield _compare("decode, 3rd key", 20, lambda: _read_by_hand(by_hand), lambda: cursors.decode(third, CONTEXT))


def _write_by_hand(values: tuple[Any, ...]) -> str:
    title, created, key = values
    return urlsafe_b64encode(json.dumps([title, created.isoformat(), str(key)]).encode()).decode()


def _read_by_hand(cursor: str) -> tuple[Any, ...]:
    title, created, key = json.loads(urlsafe_b64decode(cursor))
    return title, datetime.fromisoformat(created), UUID(key)


def _compare(name: str, aim_us: float | None, hand: Call, kit: Call) -> Result:
    for call in (hand, kit):  # warm up
        _seconds(call)
    blocks: list[tuple[float, float]] = []
    gc.collect()
    gc.freeze()
    for number in range(BLOCKS):
        if number % 2:
            took_hand, took_kit = _seconds(hand), _seconds(kit)
        else:
            took_kit, took_hand = _seconds(kit), _seconds(hand)
        blocks.append((took_hand, took_kit))
    return Result(
        name=name,
        aim_us=aim_us,
        hand_us=statistics.median(hand for hand, _ in blocks) * 1e6,
        kit_us=statistics.median(kit for _, kit in blocks) * 1e6,
        ratio=statistics.median(kit / hand for hand, kit in blocks),
    )


def _seconds(call: Call) -> float:
    """Return the seconds that one call took, on average over a block."""
    start = time.perf_counter()
    for _ in range(CALLS_IN_A_BLOCK):
        call()
    return (time.perf_counter() - start) / CALLS_IN_A_BLOCK
