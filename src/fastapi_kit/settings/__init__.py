"""The settings of a service, from its environment: checked at start-up, with one error that says all."""

from fastapi_kit.settings.base import ServiceSettings
from fastapi_kit.settings.http import HttpSettings
from fastapi_kit.settings.types import CommaSeparated, Secret, SecretPolicy, SecretURL

__all__ = ["CommaSeparated", "HttpSettings", "Secret", "SecretPolicy", "SecretURL", "ServiceSettings"]
