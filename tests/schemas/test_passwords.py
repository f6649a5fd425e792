"""Which passwords are taken, and that none of them is shown."""

from typing import Annotated, Any

import pytest
from fastapi import FastAPI
from pydantic import SecretStr, ValidationError

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.schemas import InputModel, PasswordPolicy, StrongPassword


class Registration(InputModel):
    password: StrongPassword


class Shop(InputModel):
    password: Annotated[SecretStr, PasswordPolicy(min_length=8, max_length=20, forbidden=frozenset({"lampshop"}))]


def error_of(model: type[InputModel], password: str) -> Any:
    with pytest.raises(ValidationError) as caught:
        model.model_validate({"password": password})
    (error,) = caught.value.errors(include_input=False)
    if password:
        assert password not in f"{caught.value} {error}"
    return error


@pytest.mark.parametrize(
    "password",
    [
        "tr0ub4dor&3-horse",
        "sieben auf einen streich",
        "8-73920-45817362",
        "пароль из шести слов",
        "x" * 60 + "yzabc!",
    ],
)
def test_password_of_some_length_and_variety_is_taken_as_it_is(password: str) -> None:
    assert Registration.model_validate({"password": password}).password.get_secret_value() == password


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("", "password_too_short"),
        ("tr0ub4dor&3", "password_too_short"),
        ("tr0ub4dor&3" * 20, "password_too_long"),
        ("aaaaaaaaaaaa", "password_too_simple"),
        ("abababababab", "password_too_simple"),
        ("abcabcabcabc", "password_too_simple"),
        ("123456789012", "password_too_simple"),
        ("abcdefghijkl", "password_too_simple"),
        ("zyxwvutsrqponm", "password_too_simple"),
        ("111122223333", "password_too_simple"),
        ("Password2024!!", "password_too_common"),
        ("!!!1987letmein", "password_too_common"),
        ("qwertyuiop[]12", "password_too_common"),
        ("QWERTZUIOPAS", "password_too_common"),
        ("1q2w3e4r5t6y", "password_too_common"),
        ("correct-horse-battery-staple", "password_too_common"),
    ],
)
def test_password_that_is_tried_first_is_refused(password: str, code: str) -> None:
    assert error_of(Registration, password)["type"] == code


def test_policy_of_ones_own() -> None:
    assert Shop.model_validate({"password": "kP3!vbn0"}).password == SecretStr("kP3!vbn0")
    assert error_of(Shop, "kP3!vbn")["msg"] == "Password should have at least 8 characters"
    assert error_of(Shop, "kP3!vbn0" * 3)["msg"] == "Password should have at most 20 characters"
    assert error_of(Shop, "LampShop2026")["type"] == "password_too_common"


def test_password_is_in_no_repr() -> None:
    registration = Registration.model_validate({"password": "tr0ub4dor&3-horse"})

    assert "tr0ub4dor" not in f"{registration!r} {registration} {registration.model_dump_json()}"


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(ValidationError, match="valid string"):
        Registration.model_validate({"password": 123456789012})


def test_lengths_are_in_the_openapi_and_the_field_is_write_only() -> None:
    app = FastAPI()

    @app.post("/users")
    async def register(registration: Registration) -> None: ...

    schema = app.openapi()["components"]["schemas"]["Registration"]["properties"]["password"]

    assert schema == {
        "type": "string",
        "format": "password",
        "writeOnly": True,
        "minLength": 12,
        "maxLength": 128,
        "title": "Password",
    }


@pytest.mark.parametrize("lengths", [{"min_length": 7}, {"min_length": 129}, {"max_length": 11}, {"max_length": 1025}])
def test_lengths_that_contradict_are_refused_at_once(lengths: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=r"min_length=\d+ must be 8 or more and at most max_length="):
        PasswordPolicy(**lengths)  # type: ignore[arg-type]
