"""Tokens of outside issuers: their keys, and which token goes to whom."""

from fastapi_kit.auth.issuers.errors import IssuerUnavailableError
from fastapi_kit.auth.issuers.outside import OutsideIssuer
from fastapi_kit.auth.issuers.routing import Issuers, OwnIssuer

__all__ = ["IssuerUnavailableError", "Issuers", "OutsideIssuer", "OwnIssuer"]
