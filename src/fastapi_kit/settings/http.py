"""What the environment says about who may ask: CORS and trusted hosts."""

from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.errors.hosts import check_host, check_origin
from fastapi_kit.settings.base import ServiceSettings
from fastapi_kit.settings.types import CommaSeparated

__all__ = ["HttpSettings"]


def _origin(value: str) -> str:
    try:
        return check_origin(value)
    except ConfigurationError as exc:
        reason = str(exc)
    raise PydanticCustomError("origin", "{reason}", {"reason": reason})


def _host(value: str) -> str:
    try:
        return check_host(value)
    except ConfigurationError as exc:
        reason = str(exc)
    raise PydanticCustomError("host", "{reason}", {"reason": reason})


class HttpSettings(ServiceSettings):
    """Settings with the origins and hosts of a service, checked as `observability.install` wants them.

        class Settings(HttpSettings, env_prefix="SHOP_"): ...

    `cors_origins`: `https://shop.example, https://admin.shop.example`; none by default, so that no other origin reads
    anything. `cors_credentials`: whether browsers send cookies along. `trusted_hosts`: `shop.example, *.shop.example`;
    none by default, which checks no `Host`.

        cors = Cors(origins=settings.cors_origins) if settings.cors_origins else None
        observability.install(app, cors=cors, trusted_hosts=settings.trusted_hosts or None)
    """

    cors_origins: CommaSeparated[Annotated[str, AfterValidator(_origin)]] = Field(default_factory=list)
    cors_credentials: bool = False
    trusted_hosts: CommaSeparated[Annotated[str, AfterValidator(_host)]] = Field(default_factory=list)

    @field_validator("cors_credentials")
    @classmethod
    def _check_credentials(cls, value: bool, info: ValidationInfo) -> bool:
        if value and "*" in info.data.get("cors_origins", ()):
            raise ValueError("must be off where the origins are *: any page could act for whoever looks at it")
        return value
