"""What type checkers make of the settings block in an app's own code; checked and never run."""
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from typing import Annotated, assert_type

from pydantic import SecretStr

from fastapi_kit.settings import CommaSeparated, HttpSettings, Secret, SecretPolicy, SecretURL, ServiceSettings


class Settings(ServiceSettings, env_prefix="SHOP_", env_nested_delimiter="__"):
    secret_key: Secret
    long_key: Annotated[SecretStr, SecretPolicy(min_bytes=64)]
    database_url: SecretURL = SecretURL("sqlite+aiosqlite://")
    trusted: CommaSeparated[str] = ["localhost"]  # noqa: RUF012
    ports: CommaSeparated[int] = [1]  # noqa: RUF012


class Web(HttpSettings, env_prefix="WEB_"):
    unknown_variables = "error"


settings = Settings.load()
assert_type(settings, Settings)
assert_type(settings.secret_key, SecretStr)
assert_type(settings.secret_key.get_secret_value(), str)
assert_type(settings.database_url.get_secret_value(), str)
assert_type(settings.trusted, list[str])
assert_type(settings.ports, list[int])
assert_type(Web.load().cors_origins, list[str])
