"""The types of fields, in input models and in read models."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from fastapi_kit.schemas import ExactDecimal, InputModel, Money, ReadModel, Username, UTCDateTime


class Event(InputModel):
    at: UTCDateTime


class EventRead(ReadModel):
    at: UTCDateTime


class Account(InputModel):
    username: Username


class Price(InputModel):
    amount: Money
    rate: Annotated[ExactDecimal, Field(max_digits=9, decimal_places=4)] = Decimal(1)


def code_of(model: type[InputModel], **fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(fields)
    (error,) = caught.value.errors()
    assert error["loc"] == tuple(fields)
    return error["type"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2026-01-01T05:00:00+02:00", "2026-01-01T03:00:00Z"),
        ("2026-01-01T05:00:00Z", "2026-01-01T05:00:00Z"),
        ("2026-01-01T00:30:00.5+01:00", "2025-12-31T23:30:00.500000Z"),
        (0, "1970-01-01T00:00:00Z"),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00Z"),
    ],
)
def test_moment_is_kept_in_utc_and_sent_with_z(sent: object, kept: str) -> None:
    event = Event.model_validate({"at": sent})

    assert event.at.tzinfo is UTC
    assert event.model_dump_json() == f'{{"at":"{kept}"}}'


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("2026-01-01T00:00:00", "timezone_aware"),
        (datetime(2026, 1, 1), "timezone_aware"),  # noqa: DTZ001
        ("9999-12-31T23:59:59-14:00", "datetime_range"),
        ("0001-01-01T00:00:00+14:00", "datetime_range"),
        ("yesterday", "datetime_from_date_parsing"),
        (True, "datetime_type"),
    ],
)
def test_what_is_no_moment_is_refused(sent: object, code: str) -> None:
    assert code_of(Event, at=sent) == code


def test_naive_datetime_of_a_row_is_utc_and_a_naive_text_is_not() -> None:
    class Row:
        at = datetime(2026, 1, 1)  # noqa: DTZ001

    assert EventRead.model_validate(Row()).at == datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(ValidationError, match="timezone info"):
        EventRead.model_validate({"at": "2026-01-01T00:00:00"})


@pytest.mark.parametrize("name", ["ada", "a1b", "ada.lovelace", "a-_.b", "0" * 32])
def test_username_of_plain_letters_is_taken(name: str) -> None:
    assert Account(username=name).username == name


@pytest.mark.parametrize(
    "name",
    ["ab", "a" * 33, "Ada", "ada\n", "-ada", "ada.", "a da", "àda", "\N{CYRILLIC SMALL LETTER A}da", ""],
)
def test_username_that_misleads_is_refused(name: str) -> None:
    assert code_of(Account, username=name) == "string_pattern_mismatch"


@pytest.mark.parametrize(("sent", "kept"), [("19.90", "19.90"), (5, "5"), ("-0.01", "-0.01"), (Decimal("1.5"), "1.5")])
def test_money_goes_in_and_out_as_text(sent: object, kept: str) -> None:
    price = Price.model_validate({"amount": sent})

    assert price.amount == Decimal(kept)
    assert price.model_dump_json(include={"amount"}) == f'{{"amount":"{kept}"}}'


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (19.90, "decimal_inexact"),
        (1e999, "decimal_inexact"),
        (True, "decimal_inexact"),
        ("0.001", "decimal_max_places"),
        ("99999999999", "decimal_whole_digits"),
        ("1E+20", "decimal_max_digits"),
        ("NaN", "finite_number"),
        ("ten", "decimal_parsing"),
    ],
)
def test_what_is_no_exact_amount_is_refused(sent: object, code: str) -> None:
    assert code_of(Price, amount=sent) == code


def test_digits_of_an_exact_decimal_are_chosen() -> None:
    assert Price(amount=Decimal(1), rate=Decimal("1.2345")).rate == Decimal("1.2345")
    with pytest.raises(ValidationError, match="no more than 4 decimal places"):
        Price(amount=Decimal(1), rate=Decimal("1.23456"))


@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_money_is_a_string_in_the_openapi(mode: Any) -> None:
    amount = Price.model_json_schema(mode=mode)["properties"]["amount"]

    assert amount == {"type": "string", "format": "decimal", "examples": ["19.90"], "title": "Amount"}
