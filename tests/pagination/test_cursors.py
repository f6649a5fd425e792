"""What a cursor carries, and that no other text passes for one."""

import itertools
import random
import secrets
import string
import traceback
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from threading import Barrier
from typing import Any, get_args
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx2
import pytest
from asyncpg.pgproto import pgproto  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_kit import errors
from fastapi_kit.errors import ConfigurationError
from fastapi_kit.pagination.cursors import LONGEST, Cursors, InvalidCursorError
from fastapi_kit.pagination.positions import Position, Reach

pytestmark = pytest.mark.anyio

# fixed, so that what this release writes can be compared with what another one wrote
SECRET = "Zk4vXw9sQ1tYb7RmLc2HdP8gNf5JaE3u-_KoTi6W0yC"
CONTEXT = "GET /books status=new -title,id"
BASE64URL = string.ascii_letters + string.digits + "-_"

POSITION = Position(("Middlemarch", 17), "after")
cursors = Cursors(SECRET)


def sealed(payload: bytes, *, purpose: bytes = b"fastapi_kit.pagination cursor v1") -> str:
    """Return a cursor of any payload, by the documented format and not by `Cursors`."""
    key = HKDF(SHA512(), 64, salt=None, info=purpose).derive(SECRET.encode())
    return urlsafe_b64encode(AESSIV(key).encrypt(payload, [CONTEXT.encode()])).rstrip(b"=").decode()


def raw(cursor: str) -> bytes:
    return urlsafe_b64decode(cursor + "==")


def refuses(cursor: str, context: str = CONTEXT, by: Cursors = cursors) -> bool:
    try:
        by.decode(cursor, context)
    except InvalidCursorError:
        return True
    return False


def restored(value: object) -> Any:
    [value] = cursors.decode(cursors.encode(Position((value,), "after"), CONTEXT), CONTEXT).values
    return value


# in whole seconds: CPython reads an offset below one second as UTC, and no database has one
OFFSETS = st.none() | st.timezones() | st.integers(-86399, 86399).map(lambda s: timezone(timedelta(seconds=s)))
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_categories=()), max_size=50),
    st.decimals() | st.sampled_from([Decimal("sNaN"), Decimal("-0.00"), Decimal("1E+9"), Decimal("NaN123")]),
    st.datetimes(timezones=OFFSETS),
    st.dates(),
    st.times(timezones=OFFSETS),
    st.timedeltas(),
    st.uuids(allow_nil=True),
    st.binary(max_size=100),
)


def described(value: Any) -> tuple[object, ...]:
    """Return what tells a value from any other, NaN and time zones included; offsets are what remains of zones."""
    if isinstance(value, datetime | time):
        return type(value), repr(value.replace(tzinfo=None, fold=0)), value.utcoffset()
    return type(value), repr(value)


@settings(max_examples=500, deadline=None)
@given(st.lists(VALUES, max_size=5).map(tuple), st.sampled_from(get_args(Reach)), st.text(max_size=200))
def test_a_position_comes_back_with_its_types(values: tuple[Any, ...], reach: Reach, context: str) -> None:
    cursor = cursors.encode(Position(values, reach), context)
    position = cursors.decode(cursor, context)
    assert set(cursor) <= set(BASE64URL)
    assert position.reach == reach
    assert [described(value) for value in position.values] == [described(value) for value in values]


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 11, 21, 17, 13, 6, 1),  # noqa: DTZ001
        datetime(2026, 11, 21, 17, 13, 6, 999999, tzinfo=UTC),
        datetime(1890, 1, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-6, seconds=-28))),
        datetime.max,  # noqa: DTZ901
        date(1, 1, 1),
        time(23, 59, 59, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        timedelta.min,
        timedelta.max,
        Decimal("1.50"),
        float("-inf"),
        -0.0,
        5e-324,
        2**200,
        b"\x00\xff",
        "\ud83d\ude00",
        "😀",
        "",
    ],
    ids=repr,
)
def test_a_value_at_the_edge_of_its_type_comes_back(value: object) -> None:
    assert described(restored(value)) == described(value)


def test_a_time_zone_becomes_its_offset() -> None:
    moment = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    assert restored(moment) == moment
    assert restored(moment).tzinfo == timezone(timedelta(hours=2))


class Size(IntEnum):
    SMALL = 1


class Status(StrEnum):
    NEW = "new"


class Colour(Enum):
    RED = "a colour that no error is to show"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Size.SMALL, 1),
        (Status.NEW, "new"),
        (pgproto.UUID("0197f1a2-3b4c-7d5e-8f60-718293a4b5c6"), UUID("0197f1a2-3b4c-7d5e-8f60-718293a4b5c6")),
        (type("Moment", (datetime,), {})(2026, 11, 21, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC)),
    ],
    ids=["IntEnum", "StrEnum", "UUID of asyncpg", "subclass of datetime"],
)
def test_a_subclass_comes_back_as_its_base(value: object, plain: object) -> None:
    assert described(restored(value)) == described(plain)


@pytest.mark.parametrize(
    "value",
    [Colour.RED, 1j, ["a colour"], {"a": "colour"}, ("a colour",), object()],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_cannot_be_restored_is_named_by_its_type_alone(value: object) -> None:
    with pytest.raises(TypeError, match=f"cannot hold a {type(value).__name__}: order by columns of bool") as caught:
        cursors.encode(Position((value,), "after"), CONTEXT)
    assert "colour" not in str(caught.value)


def test_the_same_position_makes_the_same_cursor() -> None:
    assert cursors.encode(POSITION, CONTEXT) == Cursors(SECRET.encode()).encode(POSITION, CONTEXT)


def test_each_position_and_context_has_a_cursor_of_its_own() -> None:
    positions = [Position(values, reach) for values in [(), (1,), (1.0,), ("1",), (True,)] for reach in get_args(Reach)]
    made = {cursors.encode(position, context) for position in positions for context in ("", "a", "b")}
    assert len(made) == len(positions) * 3


def test_a_cursor_of_an_earlier_release_is_still_read() -> None:
    assert cursors.decode("x80m5uBn5mqRGvgtBYZ4hrInbCVK649z4MQieeAtLAHTQ6AjRNAMrXRHzj8-qGRd", CONTEXT) == POSITION


def test_cursors_are_those_of_the_documented_format() -> None:
    values: list[tuple[object, str]] = [
        (None, "null"),
        (True, "true"),
        (-1, "-1"),
        (0.5, "0.5"),
        (float("-inf"), "-Infinity"),
        ("Größe", '"Größe"'),
        (datetime(2026, 11, 21, 17, 13, 6, tzinfo=UTC), '["t","2026-11-21T17:13:06+00:00"]'),
        (date(2026, 11, 21), '["d","2026-11-21"]'),
        (UUID(int=255), f'["u","{255:032x}"]'),
        (Decimal("1.50"), '["n","1.50"]'),
        (time(17, 13), '["c","17:13:00"]'),
        (timedelta(seconds=-1), '["i","-1000000"]'),
        (b"\xff\xfe", '["b","__4"]'),
    ]
    payload = f'["u",{",".join(text for _, text in values)}]'.encode()
    position = Position(tuple(value for value, _ in values), "until")
    assert cursors.encode(position, CONTEXT) == sealed(payload.ljust(-(-len(payload) // 16) * 16))


def test_the_library_implements_rfc_5297() -> None:
    key = "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
    data = "101112131415161718191a1b1c1d1e1f2021222324252627"
    made = AESSIV(bytes.fromhex(key)).encrypt(bytes.fromhex("112233445566778899aabbccddee"), [bytes.fromhex(data)])
    assert made.hex() == "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c"  # A.1


def test_nothing_of_the_values_can_be_read_in_a_cursor() -> None:
    values = ("Ada Lovelace", "Größe", 1815_12_10, UUID(int=0xDEADBEEF << 64), date(1852, 11, 27), b"\xca\xfe\xba\xbe")
    inside = raw(cursors.encode(Position(values, "before"), CONTEXT))
    parts = ("Ada", "Lovelace", "Größe", "18151210", "deadbeef", "1852", "yv66vg", "GET", "books", "status", "null")
    for part in map(str.encode, parts):
        assert part not in inside
        assert part not in b64encode(inside)
    assert values[3].bytes[4:8] not in inside
    assert values[5] not in inside


def test_positions_that_differ_by_one_have_nothing_in_common() -> None:
    one, two = (raw(cursors.encode(Position((number,), "after"), CONTEXT)) for number in (1000, 1001))
    assert sum(a == b for a, b in zip(one, two, strict=True)) < 8


def test_the_length_of_a_cursor_tells_the_length_of_its_values_to_16_bytes_only() -> None:
    lengths = [len(raw(cursors.encode(Position(("x" * size,), "after"), CONTEXT))) for size in range(50)]
    assert [(length, len(list(same))) for length, same in itertools.groupby(lengths)] == [
        (32, 9),
        (48, 16),
        (64, 16),
        (80, 9),
    ]


def test_a_cursor_is_4000_characters_long_at_most() -> None:
    longest = Position(("x" * 2968,), "after")
    cursor = cursors.encode(longest, CONTEXT)
    assert LONGEST - 22 < len(cursor) <= LONGEST
    assert cursors.decode(cursor, CONTEXT) == longest
    with pytest.raises(ValueError, match="has 4011 characters, and may have 4000: order by columns") as caught:
        cursors.encode(Position(("x" * 2969,), "after"), CONTEXT)
    assert "xx" not in str(caught.value)


def test_a_cursor_that_is_too_long_is_refused_before_it_is_decrypted() -> None:
    too_long = sealed(b'["a",1]'.ljust(2992))
    assert len(too_long) == 4011
    assert refuses(too_long)
    assert not refuses(sealed(b'["a",1]'.ljust(2976)))


def _altered(cursor: str, other: str) -> Iterator[str]:
    """Yield what can be made of two cursors without the key."""
    chance = random.Random(5297)
    sealed_bytes = raw(cursor)
    for bit in range(len(sealed_bytes) * 8):
        flipped = bytearray(sealed_bytes)
        flipped[bit // 8] ^= 1 << bit % 8
        yield urlsafe_b64encode(flipped).rstrip(b"=").decode()
    for at in range(len(cursor)):
        yield cursor[:at]
        yield cursor[at + 1 :]
        yield cursor[:at] + cursor[at + 1 :]
        yield cursor[:at] + chance.choice(BASE64URL) + cursor[at:]
        yield cursor[:at] + chance.choice(BASE64URL.replace(cursor[at], "")) + cursor[at + 1 :]
        yield cursor[:at] + "\u0661" + cursor[at + 1 :]
        yield cursor[:at] + chance.choice("\n\r\t =+/.%\x00é\ud800") + cursor[at:]
    for at in range(1, len(cursor)):
        yield cursor[:at] + other[at:]
        yield other[:at] + cursor[at:]
    for size in range(200):
        yield urlsafe_b64encode(chance.randbytes(size)).rstrip(b"=").decode()
        yield "".join(chance.choices(BASE64URL, k=size))
    yield from (cursor + end for end in ("=", "==", "===", "====", " ", "\n", "A", "AA", "AAAA", "A" * 16, cursor))
    yield from (start + cursor for start in ("=", " ", "\n", "A", "AAAA", "\ufeff"))
    yield from (cursor.upper(), cursor.lower(), cursor.swapcase(), cursor[::-1], b64encode(sealed_bytes).decode())
    yield from (urlsafe_b64encode(cursor.encode()).decode(), sealed_bytes.hex(), sealed_bytes.decode("latin-1"))
    yield from (
        "null",
        "0",
        "1",
        "[]",
        "{}",
        '["a",1]',
        "after",
        "MTc",
        "eyJpZCI6MTd9",
        "\x00",
        "A" * 4000,
        "A" * 10**6,
    )


@pytest.mark.parametrize("by", [cursors, Cursors(secrets.token_bytes(64), SECRET)], ids=["one key", "two keys"])
def test_no_altered_cursor_is_read(by: Cursors) -> None:
    cursor = by.encode(POSITION, CONTEXT)
    other = by.encode(Position(("Silas Marner", 18), "after"), CONTEXT)
    assert not refuses(cursor, by=by)
    altered = {text for text in _altered(cursor, other) if text not in (cursor, other)}
    assert len(altered) > 1300
    assert [text for text in altered if not refuses(text, by=by)] == []


def test_no_other_spelling_of_the_last_character_is_read() -> None:
    cursor = cursors.encode(Position((1,), "after"), CONTEXT)
    assert len(raw(cursor)) % 3 == 2  # the last character has two spare bits
    same_bytes = {text for text in (cursor[:-1] + last for last in BASE64URL) if raw(text) == raw(cursor)}
    assert len(same_bytes) == 4
    assert [text for text in same_bytes if not refuses(text)] == [cursor]


@pytest.mark.parametrize(
    "context", ["", CONTEXT[:-1], CONTEXT + " ", CONTEXT.lower(), CONTEXT.replace("new", "old"), "\ud800"], ids=ascii
)
def test_a_cursor_is_refused_in_another_context(context: str) -> None:
    cursor = cursors.encode(POSITION, CONTEXT)
    assert refuses(cursor, context)
    assert refuses(cursors.encode(POSITION, context), CONTEXT)
    assert not refuses(cursors.encode(POSITION, context), context)


def test_a_cursor_of_another_secret_is_refused() -> None:
    others: list[str | bytes] = [SECRET + "x", SECRET[:-1] + "D", SECRET.swapcase(), secrets.token_bytes(32)]
    for other in others:
        assert refuses(Cursors(other).encode(POSITION, CONTEXT))
        assert refuses(cursors.encode(POSITION, CONTEXT), by=Cursors(other))


def test_a_secret_is_replaced_in_steps() -> None:
    old, new = SECRET, secrets.token_urlsafe(64)
    cursor = Cursors(old).encode(POSITION, CONTEXT)
    prepared, changed = Cursors(old, new), Cursors(new, old)
    assert prepared.encode(POSITION, CONTEXT) == cursor
    assert changed.decode(cursor, CONTEXT) == POSITION
    assert changed.encode(POSITION, CONTEXT) == Cursors(new).encode(POSITION, CONTEXT) != cursor
    assert prepared.decode(changed.encode(POSITION, CONTEXT), CONTEXT) == POSITION
    assert refuses(cursor, by=Cursors(new))


@pytest.mark.parametrize(
    "payload",
    [
        b" ",
        b"\xff\xfe",
        b"null",
        b"17",
        b"{}",
        b"[]",
        b'["a",1',
        b'["x",1]',
        b"[1,1]",
        b'[["a"],1]',
        b'["a",[]]',
        b'["a",["d"]]',
        b'["a",["z","1"]]',
        b'["a",["t","yesterday"]]',
        b'["a",["t",17]]',
        b'["a",["u",17]]',
        b'["a",["u","17"]]',
        b'["a",["n","many"]]',
        b'["a",["i","%s"]]' % (b"9" * 30),
        b'["a",["b","!"]]',
        b'["a",["b","AB"]]',
        b'["a",{"t":1}]',
        b'["a",[["t"],"1"]]',
    ],
    ids=ascii,
)
def test_what_another_format_holds_is_refused(payload: bytes) -> None:
    assert not refuses(sealed(b'["a",1]'))
    assert refuses(sealed(payload))


def test_a_cursor_of_another_version_is_refused() -> None:
    assert refuses(sealed(b'["a",1]', purpose=b"fastapi_kit.pagination cursor v0"))


def test_a_refusal_tells_nothing_of_the_cursor_nor_of_the_cause() -> None:
    bad = ["", "é\ud800", "A" * 5000, cursors.encode(POSITION, "another"), sealed(b"[]"), "not base64url!"]
    told: set[str] = set()
    for cursor in bad:
        with pytest.raises(InvalidCursorError) as caught:
            cursors.decode(cursor, CONTEXT)
        told.add(caught.value.detail)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert told == {
        "The cursor is damaged, too old, or belongs to another list, filter or sort: start again without it"
    }


async def test_a_bad_cursor_is_answered_400_with_a_code() -> None:
    app = FastAPI()
    errors.install(app)

    @app.get("/")
    async def read(cursor: str) -> list[Any]:
        return list(cursors.decode(cursor, CONTEXT).values)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://shop") as client:
        good = await client.get("/", params={"cursor": cursors.encode(POSITION, CONTEXT)})
        bad = await client.get("/", params={"cursor": "c2VjcmV0\x00é"})
        empty = await client.get("/", params={"cursor": ""})
    assert good.json() == ["Middlemarch", 17]
    for answer in (bad, empty):
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")
        assert answer.json()["detail"].endswith("start again without it")
        assert "c2Vj" not in answer.text


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        (None, "must be a str in UTF-8, or bytes, not NoneType"),
        (17, "must be a str in UTF-8, or bytes, not int"),
        ("Zk4vXw9sQ1tYb7RmLc2HdP8gNf5JaE3u\udcff", "must be a str in UTF-8, or bytes, not str"),
        ("", "has 0 bytes, it needs 32"),
        (SECRET[:31], "has 31 bytes, it needs 32"),
        (b"Zk4vXw9sQ1tYb7RmLc2HdP8gNf5JaE3", "has 31 bytes, it needs 32"),
        ("ab12cd3" * 10, "repeats a few characters"),
        (b"\x00" * 64, "repeats a few characters"),
        ("Change-Me-Change-Me-Change-Me-Change-Me", "like those of tutorials"),
        ("my_S_E_C_R_E_T_key_of_the_book_shop_1", "like those of tutorials"),
    ],
    ids=ascii,
)
def test_a_secret_that_can_be_guessed_is_refused_and_not_shown(secret: Any, told: str) -> None:
    for first in ((), (SECRET,)):
        with pytest.raises(ConfigurationError, match=told) as caught:
            Cursors(*first, secret)
        text = "".join(traceback.format_exception(caught.value))
        assert not isinstance(secret, str) or not secret or secret not in text
        assert SECRET[:16] not in str(caught.value)


def test_a_secret_that_is_given_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="two cursor secrets are the same") as caught:
        Cursors(secrets.token_bytes(32), SECRET, SECRET.encode())
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("secret", [SECRET[:32], secrets.token_bytes(32), secrets.token_hex(32)], ids=type)
def test_a_random_secret_of_32_bytes_will_do(secret: str | bytes) -> None:
    made = Cursors(secret)
    assert made.decode(made.encode(POSITION, CONTEXT), CONTEXT) == POSITION


def test_secrets_are_neither_shown_nor_kept() -> None:
    made = Cursors(SECRET, "older" + SECRET)
    kept = [repr(made), str(made), repr(vars(made)), *(repr(vars(type(key))) for key in vars(made)["_keys"])]
    assert not any(SECRET in text for text in kept)


def test_threads_share_one_object() -> None:
    threads = 8
    shared, start = Cursors(secrets.token_bytes(64), SECRET), Barrier(threads)

    def work(thread: int) -> int:
        start.wait()
        for number in range(300):
            position = Position((thread, number, "x" * (number % 40)), "from")
            context = f"list {thread}"
            cursor = shared.encode(position, context)
            if shared.decode(cursor, context) != position or not refuses(cursor, "list", shared):
                return number
        return -1

    with ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(work, range(threads))) == [-1] * threads
