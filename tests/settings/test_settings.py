"""Settings from an environment that is right, wrong, and full of slips of the pen; no error shows a value."""

import base64
import logging
import secrets
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, Field, PostgresDsn, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.settings import CommaSeparated, HttpSettings, Secret, SecretPolicy, SecretURL, ServiceSettings

MARKER = "Zq7-marker-that-no-error-shows"
REMEDY = 'make one with: python -c "import secrets; print(secrets.token_urlsafe(64))"'


class Shop(ServiceSettings, env_prefix="SHOP_"):
    secret_key: Secret
    database_url: SecretURL = SecretURL("sqlite+aiosqlite:///./shop.db")
    port: int = 8000
    trusted: CommaSeparated[str] = Field(default=["localhost"])


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    key = secrets.token_urlsafe(48)
    monkeypatch.setenv("SHOP_SECRET_KEY", key)
    return key


def refusal(settings: type[ServiceSettings], **values: Any) -> list[str]:
    """The lines of the error, without the first; neither it nor what hangs on it holds the marker."""
    with pytest.raises(ConfigurationError) as caught:
        settings(**values)
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    assert MARKER not in "".join(traceback.format_exception(error))
    first, *lines = str(error).splitlines()
    assert first == f"{settings.__name__} cannot be loaded:"
    return [line.strip() for line in lines]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "fastapi_kit.settings"]


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("SHOP_DATABASE_URL", "postgresql+asyncpg://u:p@h/shop")
    monkeypatch.setenv("shop_port", "81")
    monkeypatch.setenv("SHOP_TRUSTED", "a.example, b.example,")
    settings = Shop.load()
    assert settings.secret_key.get_secret_value() == key
    assert settings.database_url.get_secret_value() == "postgresql+asyncpg://u:p@h/shop"
    assert (settings.port, settings.trusted) == (81, ["a.example", "b.example"])


def test_what_is_missing_is_named_with_a_remedy() -> None:
    assert refusal(Shop) == [f"SHOP_SECRET_KEY is missing: set it in the environment; {REMEDY}"]


def test_a_newcomer_reads_it_on_the_last_lines(empty_folder: Path) -> None:
    program = (
        "from fastapi_kit.settings import Secret, ServiceSettings\n"
        "class Shop(ServiceSettings, env_prefix='SHOP_'):\n    secret_key: Secret\n    owner: str\n"
        "Shop.load()"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-3:] == [
        "fastapi_kit.errors.configuration.ConfigurationError: Shop cannot be loaded:",
        f"  SHOP_SECRET_KEY is missing: set it in the environment; {REMEDY}",
        "  SHOP_OWNER is missing: set it in the environment",
    ]
    assert "The above exception" not in ran.stderr
    assert "During handling" not in ran.stderr


def test_all_that_is_wrong_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(Shop):
        ports: list[int] = []  # noqa: RUF012
        api: str = Field("a", validation_alias="API_NAME")

        @field_validator("api")
        @classmethod
        def check_api(cls, value: str) -> str:
            if value == "a":
                return value
            raise ValueError(f"{value} is not a")

    for name in ("SECRET_KEY", "PORT", "PORTS", "DATABASE_URL"):
        monkeypatch.setenv(f"SHOP_{name}", MARKER[:30])
    monkeypatch.setenv("SHOP_TRUSTED", f'["{MARKER}')
    monkeypatch.setenv("API_NAME", MARKER)
    assert refusal(Wrong) == [
        f"SHOP_SECRET_KEY has 30 bytes, it needs 32; {REMEDY}",
        "SHOP_DATABASE_URL is not a URL: write scheme://user:password@host:port/name",
        "SHOP_PORT: Input should be a valid integer, unable to parse string as an integer",
        'SHOP_TRUSTED begins with [ but is not JSON: write one, two or ["one", "two"]',
        "SHOP_PORTS: Input should be a valid list, written as JSON",
        "API_NAME: The value is not valid",
    ]


def test_an_empty_variable_is_said_to_be_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    class Empty(Shop):
        colour: Literal["red", "blue"] = "red"
        ports: list[int] = []  # noqa: RUF012
        name: str = Field("a", min_length=1)
        owner: str = "ada"

        @field_validator("owner")
        @classmethod
        def check_owner(cls, value: str) -> str:
            if value == "ada":
                return value
            raise ValueError("Name the owner")

    for name in ("SECRET_KEY", "PORT", "PORTS", "DATABASE_URL", "TRUSTED", "COLOUR", "NAME", "OWNER"):
        monkeypatch.setenv(f"SHOP_{name}", "")
    assert refusal(Empty) == [
        f"SHOP_SECRET_KEY is empty; {REMEDY}",
        "SHOP_DATABASE_URL is empty",
        "SHOP_PORT is empty",
        "SHOP_COLOUR: Input should be 'red' or 'blue'",
        "SHOP_PORTS is empty",
        "SHOP_NAME is empty",
        "SHOP_OWNER: Name the owner",
    ]


def test_a_default_is_checked_too() -> None:
    class Tutorial(ServiceSettings):
        secret_key: Secret = SecretStr("changeme" + secrets.token_urlsafe(48))

    (line,) = refusal(Tutorial)
    assert line.startswith("SECRET_KEY is not set, and its default is like those of tutorials")


def test_a_secret_may_have_to_be_longer() -> None:
    from typing import Annotated

    class Long(ServiceSettings):
        key: Annotated[SecretStr, SecretPolicy(min_bytes=64)]

    (line,) = refusal(Long, key=secrets.token_urlsafe(32))
    assert line == f"the argument `key` has 43 bytes, it needs 64; {REMEDY}"
    Long.load(key=secrets.token_urlsafe(64))
    with pytest.raises(ConfigurationError, match="min_bytes is 8: choose 16 or more"):
        SecretPolicy(min_bytes=8)


def test_an_optional_secret_may_be_absent_and_not_weak() -> None:
    class Optional(ServiceSettings):
        key: Secret | None = None

    assert Optional.load().key is None
    assert refusal(Optional, key="short")[0].startswith("the argument `key` has 5 bytes")


def test_an_argument_that_is_no_setting_is_refused(key: str) -> None:
    assert refusal(Shop, prot=MARKER) == ["the argument `prot` is set, but no setting reads it: did you mean `port`?"]
    assert refusal(Shop, x=MARKER) == ["the argument `x` is set, but no setting reads it"]


def test_a_check_of_several_settings_is_told_under_the_name_of_the_class(key: str) -> None:
    class Both(Shop):
        @model_validator(mode="after")
        def check(self) -> "Both":
            if self.port == 8000:
                raise ValueError("Port 8000 is taken")
            return self

    assert refusal(Both) == ["Both: Port 8000 is taken"]


class Database(BaseModel):
    url: SecretURL
    pool: int = 5
    replicas: list["Database"] = []


class Nested(ServiceSettings, env_prefix="SHOP_", env_nested_delimiter="__"):
    database: Database
    limits: dict[str, int] = {}  # noqa: RUF012


def test_nested_settings_are_named_in_full(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    assert refusal(Nested) == ["SHOP_DATABASE__URL is missing: set it in the environment"]
    monkeypatch.setenv("SHOP_DATABASE__POOL", MARKER)
    monkeypatch.setenv("SHOP_DATABASE__POL", "5")
    monkeypatch.setenv("SHOP_LIMITS__LOGIN", MARKER)
    assert refusal(Nested) == [
        "SHOP_DATABASE__URL is missing: set it in the environment",
        "SHOP_DATABASE__POOL: Input should be a valid integer, unable to parse string as an integer",
        "SHOP_LIMITS: Input should be a valid integer, unable to parse string as an integer",
        "SHOP_DATABASE__POL is set, but no setting reads it: did you mean SHOP_DATABASE__POOL?",
    ]
    for name, value in {"DATABASE__POOL": "7", "DATABASE__URL": "x://h", "LIMITS__LOGIN": "3"}.items():
        monkeypatch.setenv(f"SHOP_{name}", value)
    monkeypatch.delenv("SHOP_DATABASE__POL")
    settings = Nested.load()
    assert (settings.database.pool, settings.limits) == (7, {"login": 3})
    assert warnings(caplog) == []


def test_what_is_wrong_inside_of_json_has_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    class Whole(ServiceSettings, env_prefix="SHOP_"):
        database: Database
        other: Database | None = None

    monkeypatch.setenv("SHOP_DATABASE", f'{{"url": "x://h", "replicas": [{{"url": "x://h", "pool": "{MARKER}"}}]}}')
    assert refusal(Whole)[0].startswith("SHOP_DATABASE at replicas.0.pool: Input should be a valid integer")
    monkeypatch.setenv("SHOP_DATABASE", f'{{"{MARKER}": 1, "url": "x://h"')
    assert refusal(Whole) == [
        "SHOP_DATABASE: Input should be a valid dictionary or instance of Database, written as JSON"
    ]
    monkeypatch.delenv("SHOP_DATABASE")
    assert refusal(Whole) == ["SHOP_DATABASE is missing: set it in the environment"]


def test_a_member_that_is_not_known_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(BaseModel, extra="forbid"):
        url: str = ""

    class Whole(ServiceSettings, env_prefix="SHOP_", env_nested_delimiter="__"):
        database: Closed

    monkeypatch.setenv("SHOP_DATABASE", f'{{"{MARKER}": 1}}')
    assert refusal(Whole) == ["SHOP_DATABASE: Extra inputs are not permitted"]


def test_aliases_are_named_and_known(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    class Aliased(ServiceSettings, env_prefix="SHOP_"):
        port: int = Field(validation_alias=AliasChoices("SHOP_HTTP_PORT", "PORT"))
        first: int = Field(0, validation_alias=AliasPath("SHOP_NUMBERS", 0))

    assert refusal(Aliased) == ["SHOP_HTTP_PORT is missing: set it in the environment"]
    monkeypatch.setenv("PORT", MARKER)
    assert refusal(Aliased)[0].startswith("SHOP_HTTP_PORT: Input should be a valid integer")
    monkeypatch.setenv("PORT", "1")
    monkeypatch.setenv("SHOP_NUMBERS", "[7]")
    assert Aliased.load().first == 7
    assert warnings(caplog) == []


@pytest.mark.parametrize("target", ["alias", "all"])
def test_an_alias_may_take_the_prefix(monkeypatch: pytest.MonkeyPatch, target: Any) -> None:
    class Prefixed(ServiceSettings):
        model_config = SettingsConfigDict(env_prefix="SHOP_", env_prefix_target=target)
        port: int = Field(validation_alias="HTTP_PORT")

    assert refusal(Prefixed) == ["SHOP_HTTP_PORT is missing: set it in the environment"]


def test_a_slip_of_the_pen_is_reported_beside_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_SECRT_KEY", MARKER)
    assert refusal(Shop) == [
        f"SHOP_SECRET_KEY is missing: set it in the environment; {REMEDY}",
        "SHOP_SECRT_KEY is set, but no setting reads it: did you mean SHOP_SECRET_KEY?",
    ]


def test_an_unknown_variable_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    monkeypatch.setenv("SHOP_PROT", MARKER)
    monkeypatch.setenv("SHOP_COLOUR", MARKER)
    monkeypatch.setenv("SHOPPING", MARKER)
    monkeypatch.setenv("SHOP_with-" + MARKER, "1")  # the rest of a secret that was pasted, for one
    Shop.load()
    assert sorted(warnings(caplog)) == [
        "SHOP_COLOUR is set, but no setting reads it",
        "SHOP_PROT is set, but no setting reads it: did you mean SHOP_PORT?",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert MARKER not in caplog.text


def test_an_unknown_variable_may_be_an_error_or_ignored(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    class Strict(Shop):
        unknown_variables = "error"

    class Lax(Shop):
        unknown_variables = "ignore"

    monkeypatch.setenv("SHOP_PROT", "1")
    assert refusal(Strict) == ["SHOP_PROT is set, but no setting reads it: did you mean SHOP_PORT?"]
    Lax.load()
    assert warnings(caplog) == []


def test_what_kubernetes_sets_for_services_is_not_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Small(ServiceSettings, env_prefix="SHOP_"):
        name: str = ""

    for service in ("", "CACHE_"):
        for name in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT_80_TCP", "PORT_80_TCP_ADDR"):
            monkeypatch.setenv(f"SHOP_{service}{name}", "10.0.0.1")
        monkeypatch.setenv(f"SHOP_{service}PORT", "tcp://10.0.0.1:80")
    Small.load()
    assert warnings(caplog) == []
    monkeypatch.setenv("SHOP_PORT", "80")
    Small.load()
    assert warnings(caplog) == ["SHOP_PORT is set, but no setting reads it"]


def test_without_a_prefix_nothing_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Bare(ServiceSettings):
        port: int = 1

    monkeypatch.setenv("PROT", "1")
    Bare.load()
    assert warnings(caplog) == []


def test_names_may_be_told_by_their_case(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    class Cased(ServiceSettings, env_prefix="shop_", case_sensitive=True):
        Port: int

    monkeypatch.setenv("shop_port", "1")
    assert refusal(Cased) == [
        "shop_Port is missing: set it in the environment",
        "shop_port is set, but no setting reads it: did you mean shop_Port?",
    ]


def test_a_file_is_read_when_it_is_asked_for(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Filed(Shop, env_file=".env"):
        pass

    (empty_folder / ".env").write_text("SHOP_PORT=82\nSHOP_PROT=1\nOTHER=x\n")
    assert refusal(Shop)[0].endswith(REMEDY)
    assert refusal(Filed)[0].startswith("SHOP_SECRET_KEY is missing: set it in the environment or in the env file; ")
    monkeypatch.setenv("SHOP_SECRET_KEY", secrets.token_urlsafe(48))
    assert Filed.load().port == 82
    assert warnings(caplog) == ["SHOP_PROT is set, but no setting reads it: did you mean SHOP_PORT?"]
    (empty_folder / "other.env").write_text("SHOP_PORT=83\n")
    assert Shop.load(_env_file="other.env").port == 83


def test_files_of_secrets_are_read(empty_folder: Path) -> None:
    class Mounted(ServiceSettings, env_prefix="SHOP_"):
        secret_key: Secret
        ports: list[int] = []  # noqa: RUF012

    key = secrets.token_urlsafe(48)
    (empty_folder / "shop_secret_key").write_text(f"{key}\n")
    assert Mounted.load(_secrets_dir=empty_folder).secret_key.get_secret_value() == key
    (empty_folder / "shop_secret_key").write_text(MARKER[:20])
    (empty_folder / "shop_ports").write_text(MARKER)
    assert refusal(Mounted, _secrets_dir=empty_folder) == [
        f"SHOP_SECRET_KEY has 20 bytes, it needs 32; {REMEDY}",
        "SHOP_PORTS: Input should be a valid list, written as JSON",
    ]
    (line,) = refusal(Mounted, _secrets_dir=empty_folder / "shop_ports")
    assert line.startswith("a source of settings could not be read")


def test_the_file_of_a_missing_secret_is_named(empty_folder: Path) -> None:
    class Mounted(ServiceSettings, env_prefix="SHOP_", secrets_dir=empty_folder, env_nested_delimiter="__"):
        secret_key: Secret
        database: Database

    class Cased(ServiceSettings, env_prefix="SHOP_", case_sensitive=True):
        Key: str

    secret, database = refusal(Mounted, _env_file=".env")
    assert secret == (
        "SHOP_SECRET_KEY is missing: set it in the environment or in the env file or in the file "
        f"{empty_folder}/shop_secret_key; {REMEDY}"
    )
    assert database == "SHOP_DATABASE__URL is missing: set it in the environment or in the env file"
    other = empty_folder / "other"
    other.mkdir()
    (cased,) = refusal(Cased, _secrets_dir=[empty_folder, other])
    files = f"in the file {empty_folder}/SHOP_Key or in the file {other}/SHOP_Key"
    assert cased == f"SHOP_Key is missing: set it in the environment or {files}"


def test_sources_may_be_of_another_kind(key: str) -> None:
    class Other(Shop):
        @classmethod
        def settings_customise_sources(cls, settings_cls: Any, *sources: Any, **named: Any) -> Any:
            def fixed() -> dict[str, Any]:
                return {"port": 99}

            return super().settings_customise_sources(settings_cls, *sources, **{**named, "dotenv_settings": fixed})

    assert Other.load().port == 99


def test_no_repr_shows_a_secret(key: str) -> None:
    class Many(Shop):
        api_token: str = MARKER
        plain_url: str = f"redis://:{MARKER}@h:6379/0"
        urls: tuple[str, ...] = ("x", f"postgresql://u:{MARKER}@h/x")
        dsn: PostgresDsn = PostgresDsn(f"postgresql://u:{MARKER}@h/x")
        by_name: dict[str, str] = {"password": MARKER, "colour": "red"}  # noqa: RUF012
        nested: list[dict[str, "Account"]] = Field(default_factory=list)
        ttl_token_seconds: int = 5

    class Account(BaseModel):
        user: str = "ada"
        password: str = MARKER

    Many.model_rebuild(_types_namespace={"Account": Account})
    settings = Many.load(nested=[{"one": Account()}], database_url=f"postgresql://u:{MARKER}@db.internal:5432/{MARKER}")
    for text in (repr(settings), str(settings), f"{settings}"):
        assert MARKER not in text
        assert key not in text
        for part in ("'red'", "user='ada'", "ttl_token_seconds=5", "port=8000", "postgresql://**********@db.internal'"):
            assert part in text
    dumped = str(settings.model_dump(include={"secret_key", "database_url"})) + settings.model_dump_json(
        include={"secret_key", "database_url"}
    )
    assert MARKER not in dumped
    assert key not in dumped


def test_settings_cannot_be_changed(key: str) -> None:
    settings = Shop.load()
    with pytest.raises(AttributeError, match="settings do not change"):
        settings.port = 9
    settings._kept = 1  # as pydantic keeps private attributes
    assert settings.port == 8000


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite+aiosqlite:///./shop.db", "sqlite+aiosqlite://"),
        ("redis://localhost:6379/0", "redis://localhost"),
        ("postgresql://u:pw@db.internal:5432/shop?sslpassword=pw", "postgresql://**********@db.internal"),
        ("https://pw@hooks.example/pw", "https://**********@hooks.example"),
        ("postgresql://u:p/pw@host/x", "postgresql://**********"),
        ("postgresql://u:p@pw@host/x", "postgresql://**********@**********"),
        ("postgresql://u:pw@host/x?password=s@pw", "postgresql://**********@**********"),
        ("postgresql://user:pw/x", "postgresql://**********"),
    ],
)
def test_a_url_shows_scheme_and_host_alone(url: str, shown: str) -> None:
    assert repr(SecretURL(url)) == f"SecretURL('{shown}')"
    assert SecretURL(url).get_secret_value() == url


class TestHttpSettings:
    @pytest.fixture(autouse=True)
    def variables(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
        self.environment = monkeypatch
        return iter([monkeypatch])

    def test_origins_and_hosts_are_lists(self) -> None:
        self.environment.setenv("CORS_ORIGINS", "https://a.example, http://localhost:5173")
        self.environment.setenv("TRUSTED_HOSTS", '["*.a.example", "127.0.0.1"]')
        settings = HttpSettings()
        assert settings.cors_origins == ["https://a.example", "http://localhost:5173"]
        assert settings.trusted_hosts == ["*.a.example", "127.0.0.1"]

    def test_none_are_the_default(self) -> None:
        assert (HttpSettings().cors_origins, HttpSettings().trusted_hosts) == ([], [])

    def test_what_no_browser_sends_is_refused(self) -> None:
        self.environment.setenv("CORS_ORIGINS", f"https://a.example, https://{MARKER}/")
        self.environment.setenv("TRUSTED_HOSTS", f"https://{MARKER}")
        first, second = refusal(HttpSettings)
        assert first.startswith("entry 2 of CORS_ORIGINS: an origin is scheme://host")
        assert second.startswith("entry 1 of TRUSTED_HOSTS: a trusted host is a name")

    def test_all_hosts_are_said_by_naming_none(self) -> None:
        self.environment.setenv("TRUSTED_HOSTS", "*")
        assert refusal(HttpSettings) == [
            "entry 1 of TRUSTED_HOSTS: the trusted host `*` allows all: leave it out to allow all"
        ]

    def test_credentials_for_everybody_are_refused(self) -> None:
        self.environment.setenv("CORS_ORIGINS", "*")
        assert HttpSettings().cors_origins == ["*"]
        self.environment.setenv("CORS_CREDENTIALS", "true")
        assert refusal(HttpSettings)[0].startswith("CORS_CREDENTIALS: must be off where the origins are *")


def test_bytes_that_are_secret_are_taken_too() -> None:
    from typing import Annotated

    from pydantic import SecretBytes

    class Binary(ServiceSettings):
        key: Annotated[SecretBytes, SecretPolicy()]

    Binary.load(key=base64.b64encode(secrets.token_bytes(32)))
    assert refusal(Binary, key=b"short")
