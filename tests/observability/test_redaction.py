"""What is replaced in fields and in texts, and what is left."""

import base64
import re
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr, ValidationError
from starlette.datastructures import Headers, MutableHeaders

from fastapi_kit.auth.api_keys.form import KeyForm
from fastapi_kit.auth.sessions._token import RefreshToken
from fastapi_kit.errors import ConfigurationError
from fastapi_kit.observability import Redactor

SECRET = "hunter2XQZ"
ENCODED = base64.b64encode(SECRET.encode()).decode()
JWT = f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{SECRET}"

TEXTS = [
    f"password={SECRET}",
    f"Password: {SECRET}",
    f"password:{SECRET}",
    f'{{"password": "{SECRET}"}}',
    f'{{"a":{{"client_secret":"{SECRET}","b":1}}}}',
    f"{{'new_password': 'it\\'s {SECRET}', 'x': 1}}",
    f'{{"json": "{{\\"token\\": \\"{SECRET}\\"}}"}}',
    f'"{{\\\\\\"token\\\\\\": \\\\\\"a\\\\\\\\\\"{SECRET}\\\\\\"}}"',
    f"(b'authorization', b'Bearer {SECRET}')",
    f"[(b'cookie', b'a={SECRET}; b={SECRET}'), (b'host', b'x')]",
    f"{Headers({'host': 'a', 'cookie': SECRET})}",
    f"{MutableHeaders(raw=[(b'cookie', SECRET.encode()), (b'cookie', SECRET.encode())])}",
    f"Cookie: a={SECRET}; session={SECRET}",
    f"Set-Cookie: __Host-id={SECRET}; Path=/; HttpOnly",
    f'Authorization: Digest username="x", response="{SECRET}"',
    f"authorization={SECRET} {SECRET}",
    f"b'GET / HTTP/1.1\\r\\nCookie: id={SECRET}\\r\\nHost: x\\r\\n\\r\\n'",
    f"GET /x?token={SECRET}&api_key={SECRET}&a=1 HTTP/1.1",
    f"GET /callback?code={SECRET}&state=1",
    f"access_token%3D{SECRET}&x",
    f"postgresql+asyncpg://user:{SECRET}@host/db",
    f"redis://:{SECRET}@host:6379/0",
    f"postgres://u:a@b:{SECRET}/x@host/db?x=1",
    f"postgres://u:p%40{SECRET}@host/db",
    f"https://one:8000/x,redis://:it's{SECRET}@two",
    f"host=x password={SECRET} dbname=y",
    f"password='{SECRET} and {SECRET}' host=x",
    f"password='{SECRET} cut off",
    f"AccountKey={SECRET};Endpoint=x",
    f'DB_PASSWORD: str = "{SECRET}"',
    f'token: Optional[str] = "{SECRET}"',
    f'os.environ["DB_PASSWORD"] = "{SECRET}"',
    f'os.getenv("DB_PASSWORD", "{SECRET}")',
    f"token => '{SECRET}'",
    f"cookies={{'id': '{SECRET}'}}",
    f"<password>{SECRET}</password>",
    f"token={SECRET}'s\"{SECRET}",
    f"Bearer {SECRET}",
    f"sent bearer {SECRET}, and",
    f"Basic {ENCODED}",
    f"basic {ENCODED}",
    f"Basic {SECRET}",
    JWT,
    f"token_{JWT}",
    f"x-api-key: {SECRET}",
    f"apiKey: '{SECRET}'",
    f"api key = {SECRET}",
    f"sessionId={SECRET}",
    f"JSESSIONID={SECRET}",
    f"input_value='{SECRET}', input_type=str",
    f"{{'loc': ('body', 'pass'), 'msg': 'short', 'input': '{SECRET}'}}",
    f"[SQL: SELECT 1]\n[parameters: ('{SECRET}',)]",
    f"DETAIL:  Key (email)=({SECRET}) already exists.",
    f"DETAIL:  Failing row contains (1, {SECRET}).",
    f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY----- and more",
    f"-----BEGIN RSA PRIVATE KEY-----\\n{SECRET}\\ncut",
    *(f"password={start}{SECRET}" for start in "bfru"),
    f"$argon2id$v=19$m=19456,t=2,p=1${SECRET}$abcdefgh",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_is_found_in_text(text: str) -> None:
    redacted = Redactor().text(text)
    assert SECRET not in redacted
    assert ENCODED not in redacted
    assert "[redacted]" in redacted
    assert Redactor().text(redacted) == redacted


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_is_found_in_the_midst_of_other_text(text: str) -> None:
    assert SECRET not in Redactor().text(f"before {text}\nafter it: x@y {text}")


@pytest.mark.parametrize(
    "text",
    [
        "Uvicorn running on http://127.0.0.1:8000 (Press CTRL+C to quit)",
        "http://host:8000/users/@me and http://[::1]:8000/x@y",
        "token_type: bearer, token_count=5, cookie_name='id', api_key_id: 7, token_url=https://a/token",
        "invalid token, try again",
        "Bearer token is missing; basic authentication is off",
        "max_tokens=512 prompt_tokens: 5",
        "key=users:42, tokenizer: bert, secretary=Ann, passwordless: x, hotpath: 1",
        'password authentication failed for user "x"',
        "password=None token: null secret: True",
        "GET /auth/token 200 of ann@example.com",
        "2f4a9c1e7b3d5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8",
        "3f2b8c1e-7b3d-4f60-8182-93a4b5c6d7e8",
    ],
)
def test_what_is_no_secret_is_left(text: str) -> None:
    assert Redactor().text(text) == text


def test_the_rest_of_a_text_stays() -> None:
    assert (
        Redactor().text(f"to redis://app:{SECRET}@cache:6379/0 failed")
        == "to redis://app:[redacted]@cache:6379/0 failed"
    )
    assert Redactor().text(f"a=1&token={SECRET}&b=2") == "a=1&token=[redacted]&b=2"
    assert Redactor().text(f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----(x)") == "[redacted](x)"


def test_keys_and_refresh_tokens_of_the_kit_are_found_by_their_look() -> None:
    key = KeyForm("shop").new()[1]
    assert Redactor().text(key) == Redactor().text(f"{key}")
    assert Redactor().text(f"got {key}.") == f"got {key[:30]}[redacted]."
    for _ in range(200):
        assert Redactor().text(f"got {RefreshToken.new().text()}.") == "got [redacted]."


@pytest.mark.parametrize("secret", ["bunny", "r2d2xyz", "urban-7", "fr0g", "b", "br"])
def test_the_first_characters_of_a_secret_are_no_prefix_of_a_string(secret: str) -> None:
    assert Redactor().text(f"password={secret}") == "password=[redacted]"


@pytest.mark.parametrize("prefix", ["b", "R", "u", "rb", "Br", "f"])
def test_the_prefix_of_a_string_is_kept(prefix: str) -> None:
    assert Redactor().text(f"token={prefix}'{SECRET}' and") == f"token={prefix}'[redacted]' and"


@pytest.mark.parametrize(
    "key",
    [
        *("sk_" + "live_" + "a1B2" * 6, "rk_" + "test_" + "a1B2" * 6),
        *("ghp_" + "a1B2" * 9, "github_pat_" + "a1_B" * 9, "AKIA" + "Z2X4" * 4),
    ],
)
def test_keys_of_vendors_are_found_by_their_look(key: str) -> None:
    assert Redactor().text(key) == "[redacted]"
    assert Redactor().text(f"paid with ({key}), so") == "paid with ([redacted]), so"
    assert Redactor().fields({"it": key}) == {"it": "[redacted]"}


def test_what_pydantic_says_of_a_password_holds_none() -> None:
    class Account(BaseModel):
        password: int

    with pytest.raises(ValidationError) as caught:
        Account.model_validate({"password": SECRET})
    assert SECRET in str(caught.value)
    assert SECRET not in Redactor().text(str(caught.value))


@pytest.mark.parametrize(
    "name",
    [
        *(
            "password",
            "user_password",
            "passwordHash",
            "PASSWD",
            "pwd",
            "client-secret",
            "X-API-Key",
            "apiKey",
            "api key",
        ),
        *("token", "accessToken", "refresh_tokens", "Authorization", "Proxy-Authorization", "cookie", "Set-Cookie"),
        *("sessionId", "session_id", "sid", "PHPSESSID", "privateKey", "credentials", "otp", "jwt", "signature"),
    ],
)
def test_a_field_is_a_secret_by_its_name(name: str) -> None:
    redactor = Redactor()
    assert redactor.is_secret(name)
    assert redactor.is_secret("x" * 300 + "_" + name)
    assert redactor.fields({name: SECRET}) == {name: "[redacted]"}
    assert redactor.fields({"a": [{"b": ({name: [SECRET]},)}]}) == {"a": [{"b": [{name: "[redacted]"}]}]}
    assert redactor.fields({"raw": [(name.encode(), SECRET)]}) == {"raw": [[name, "[redacted]"]]}
    assert redactor.fields({name: None, "in": {name: True}}) == {name: None, "in": {name: True}}
    assert redactor.fields({name: 123456}) == ({name: "[redacted]"} if not name.endswith("tokens") else {name: 123456})


@pytest.mark.parametrize("name", ["user", "key", "token_type", "cookie_name", "api_key_id", "hotpath", "code", "input"])
def test_a_field_with_another_name_is_none(name: str) -> None:
    assert Redactor().fields({name: "ann"}) == {name: "ann"}


def test_fields_become_what_json_can_hold() -> None:
    class Odd:
        def __str__(self) -> str:
            raise ValueError(SECRET)

    class OddMapping(dict[str, Any]):
        def items(self) -> Any:
            raise ValueError(SECRET)

    given: dict[Any, Any] = {
        "odd": Odd(),
        "mapping": OddMapping(),
        "bytes": b"\xffpassword=" + SECRET.encode(),
        "secret_text": SecretStr(SECRET),
        "model": SecretStr(SECRET),
        "error": ValueError(f"token={SECRET}"),
        "big": 10**5000,
        "set": {1},
        "pair": (1, 2),
        "float": float("inf"),
        7: "seven",
        "day": date(2026, 11, 21),
        "members": {f"password={SECRET}": 1, f"redis://:{SECRET}@x": 2},
    }
    fields = Redactor().fields(given)
    assert fields["odd"] == "<Odd, unreadable>"
    assert fields["mapping"] == "<OddMapping, unreadable>"
    assert fields["bytes"] == "\\xffpassword=[redacted]"
    assert fields["error"] == "ValueError: token=[redacted]"
    assert fields["big"] == "<int, unreadable>"
    assert (fields["set"], fields["pair"], fields["7"], fields["day"]) == ([1], [1, 2], "seven", "2026-11-21")
    assert SECRET not in repr(fields)


def test_a_field_takes_no_more_than_its_room() -> None:
    redactor = Redactor()
    circle: list[Any] = []
    circle.append(circle)
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    assert repr(redactor.fields({"a": circle, "b": loop})).count("[deeper]") == 2
    assert redactor.fields({"a": "x" * 10_001})["a"] == "x" * 10_000 + "... [cut, 10001 characters]"
    assert len(repr(redactor.fields({"a": ["x" * 9_000] * 5_000}))) < 100_000
    assert redactor.fields({"a": [1] * 5_000})["a"][-1] == "[cut, 5000 items]"
    members = redactor.fields({"a": dict.fromkeys(map(str, range(5_000)), 1)})["a"]
    assert (len(members), members["[cut]"]) == (1_001, "5000 members")


def test_a_secret_that_reaches_over_a_cut_is_found() -> None:
    text = "x" * 9_980 + f" redis://:{SECRET * 100}@host"
    assert "hunter" not in Redactor().text(text, longest=10_000)
    assert Redactor().text("x" * 20_000, longest=10_000).endswith("... [cut, 20000 characters]")


def test_names_and_patterns_of_an_app_are_added() -> None:
    redactor = Redactor(names=["iban", "card number"], patterns=[r"\bDE\d{20}\b", re.compile("4111[0-9]+")])
    for name in ("iban", "card_number", "cardNumber", "CARD-NUMBER"):
        assert redactor.fields({name: SECRET}) == {name: "[redacted]"}
        assert redactor.text(f"{name}={SECRET}") == f"{name}=[redacted]"
    assert redactor.text("41112222") == "[redacted]"
    assert redactor.text("to DE12345678901234567890") == "to [redacted]"
    assert redactor.text(f"password={SECRET}") == "password=[redacted]"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"names": "iban"}, r"names=\[...\]"),
        ({"patterns": "x+"}, r"patterns=\[...\]"),
        ({"names": ["a.*"]}, "letters, digits"),
        ({"names": [7]}, "letters, digits"),
        ({"patterns": ["("]}, "no regular expression"),
        ({"patterns": [None]}, "no regular expression"),
        ({"patterns": [re.compile(b"x")]}, "no regular expression"),
        ({"patterns": ["x*"]}, "the empty text"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Redactor(**settings)


@given(st.text(), st.sampled_from(TEXTS), st.text())
def test_no_text_around_it_makes_redaction_fail(before: str, text: str, after: str) -> None:
    Redactor().text(before + text + after)
