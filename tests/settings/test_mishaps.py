"""What validators, files and odd values do that pydantic does not expect: a line for each, and no value in it."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, RootModel, field_validator, model_validator
from pydantic_core import PydanticUseDefault

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.settings import CommaSeparated, Secret, ServiceSettings

MARKER = "hunter2-marker"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(settings: type[ServiceSettings], **values: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        settings(**values)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert MARKER not in "".join(traceback.format_exception(caught.value))
    first, *lines = str(caught.value).splitlines()
    assert first == f"{settings.__name__} cannot be loaded:"
    return [line.strip() for line in lines]


def zone(value: str) -> Any:
    return ZoneInfo(value)


def look_up(value: str) -> int:
    return {"a": 1}[value]


@pytest.mark.parametrize(("check", "named"), [(zone, "ZoneInfoNotFoundError"), (look_up, "KeyError")])
def test_a_validator_that_raises_anything_shows_no_value(
    monkeypatch: pytest.MonkeyPatch, check: Callable[[str], Any], named: str
) -> None:
    class Checked(ServiceSettings, env_prefix="A1_"):
        tz: Annotated[Any, AfterValidator(check)]
        members: list[Annotated[Any, AfterValidator(check)]] = []  # noqa: RUF012
        port: int

    monkeypatch.setenv("A1_TZ", MARKER)
    monkeypatch.setenv("A1_MEMBERS", f'["{MARKER}"]')
    monkeypatch.setenv("A1_PORT", MARKER)
    assert refusal(Checked) == [
        f"A1_TZ is refused: its validator raised {named}",
        f"A1_MEMBERS is refused: its validator raised {named}",
        "A1_PORT: Input should be a valid integer, unable to parse string as an integer",
    ]


def test_so_do_the_validators_of_a_class_and_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    class Parent(ServiceSettings, env_prefix="A1_"):
        first: Any = "a"

        @field_validator("first")
        @classmethod
        def check_first(cls, value: str) -> int:
            return look_up(value)

    class Child(Parent):
        second: Any = "a"
        third: int = 3

        @field_validator("second")
        @classmethod
        def check_second(cls, value: str) -> int:
            return look_up(value)

    assert Child.load().second == 1
    for name in ("FIRST", "SECOND", "THIRD"):
        monkeypatch.setenv(f"A1_{name}", MARKER)
    first, second, third = refusal(Child)
    assert first == "A1_FIRST is refused: its validator raised KeyError"
    assert second == "A1_SECOND is refused: its validator raised KeyError"
    assert third.startswith("A1_THIRD: Input should be a valid integer")
    assert refusal(Child, first="a", third=3) == [second]


def test_what_names_no_variable_is_told_by_its_class() -> None:
    class Whole(ServiceSettings):
        tz: str = ""

        @model_validator(mode="after")
        def check(self) -> "Whole":
            return zone(self.tz)  # type: ignore[no-any-return]

    class Made(ServiceSettings):
        one: int = Field(default_factory=lambda: look_up(MARKER))

    assert refusal(Whole, tz=MARKER) == [
        "ZoneInfoNotFoundError was raised where no variable can be told: mend this first"
    ]
    assert refusal(Made) == ["KeyError was raised where no variable can be told: mend this first"]


def test_a_configuration_error_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(value: str) -> str:
        raise ConfigurationError("that will not do")

    class Inner(ServiceSettings, env_prefix="INNER_"):
        key: Secret

    class Outer(ServiceSettings, env_prefix="A1_"):
        name: Annotated[str, BeforeValidator(refuse)]
        inner: Inner = Field(default_factory=Inner.load)

    class Made(ServiceSettings):
        inner: Inner = Field(default_factory=Inner.load)

    monkeypatch.setenv("A1_NAME", MARKER)
    assert refusal(Outer, inner={"key": MARKER})[0] == "A1_NAME: that will not do"
    assert [line[:24] for line in refusal(Made)] == ["Inner cannot be loaded:", "INNER_KEY is missing: se"]


def test_a_validator_may_ask_for_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    def default(value: Any) -> Any:
        if value == "":
            raise PydanticUseDefault
        return value

    class Lax(ServiceSettings):
        port: Annotated[int, BeforeValidator(default)] = 80

    monkeypatch.setenv("PORT", "")
    assert Lax.load().port == 80


def test_json_that_never_ends_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lists(ServiceSettings, env_prefix="A1_"):
        plain: list[str] = []  # noqa: RUF012
        commas: CommaSeparated[str] = Field(default_factory=list)

    monkeypatch.setenv("A1_PLAIN", "[" * 100_000)
    monkeypatch.setenv("A1_COMMAS", "[" * 100_000)
    assert refusal(Lists) == [
        "A1_PLAIN: Input should be a valid list, written as JSON",
        'A1_COMMAS begins with [ but is not JSON: write one, two or ["one", "two"]',
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_file_in_another_encoding_is_told(empty_folder: Path, encoding: str) -> None:
    class Filed(ServiceSettings, env_prefix="A1_", env_file=".env"):
        name: str

    (empty_folder / ".env").write_text(f"A1_NAME=é{MARKER}\n", encoding=encoding)
    assert refusal(Filed) == ["the env file is not UTF-8: save it so, and load again"]
    assert refusal(Filed, _env_file_encoding="ascii") == ["the env file is not ascii: save it so, and load again"]
    assert Filed.load(_env_file_encoding=encoding).name == f"é{MARKER}"


def test_a_secret_with_the_end_of_its_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Signed(ServiceSettings, env_prefix="A1_"):
        key: Secret

    monkeypatch.setenv("A1_KEY", f"{MARKER}-Xk29-qLw8-Vb31-mZp7-sd0\n")
    assert refusal(Signed)[0].startswith("A1_KEY begins or ends with white space: take it away")


class Account(BaseModel):
    a: str = MARKER
    hidden: str = Field(default=MARKER, repr=False)


class Login(NamedTuple):
    user: str
    password: str


@dataclass
class Server:
    host: str
    password: str
    hidden: str = field(default=MARKER, repr=False)


class Text(RootModel[str]):
    pass


class Shown(ServiceSettings):
    smtp_password: Account = Account()
    server: Server
    login: Login = Login("ada", MARKER)
    logins: tuple[Login, ...] = (Login("bob", MARKER),)
    passwd: Text = Text(MARKER)
    api_token: int = 271828182
    pass_: float = 2.71828
    signing_key: str = MARKER
    encryption_key: str = MARKER
    account_key: str = MARKER
    connection: str = f"host=h password={MARKER}"
    options: str = f'{{"api_key": "{MARKER}"}}'
    hidden: str = Field(default=MARKER, repr=False)
    token_ttl_seconds: int = 300
    secret_rotation: bool = True
    compass: str = "north"
    port: int = 8000


def test_a_repr_hides_what_is_named_like_a_secret_wherever_it_is() -> None:
    text = repr(Shown.load(server=Server("db.internal", MARKER)))
    assert MARKER not in text
    assert "2718" not in text
    assert "2.718" not in text
    for part in (
        "smtp_password=Account(a='**********')",
        "server=Server(host='db.internal', password='**********')",
        "login=Login(user='ada', password='**********')",
        "logins=[Login(user='bob', password='**********')]",
        "api_token='**********'",
        "token_ttl_seconds=300",
        "secret_rotation=True",
        "compass='north'",
        "port=8000",
    ):
        assert part in text
    assert "hidden" not in text
