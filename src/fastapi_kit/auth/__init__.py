"""Who is calling, and may they: tokens, passwords, the current user and guards."""

from fastapi_kit.auth.cache import CacheInfo
from fastapi_kit.auth.claims import AccessClaims
from fastapi_kit.auth.credentials import Credential, TokenVerifier
from fastapi_kit.auth.errors import (
    ForbiddenError,
    InsufficientScopeError,
    InvalidCredentialsError,
    MalformedCredentialsError,
    MissingCredentialsError,
    PasswordsBusyError,
    TokenError,
)
from fastapi_kit.auth.guards import Auth
from fastapi_kit.auth.keys import Key, KeySet
from fastapi_kit.auth.login import Login, TokenResponse, login_router
from fastapi_kit.auth.passwords import (
    OWASP,
    RFC_9106_LOW_MEMORY,
    Argon2Profile,
    PasswordCheck,
    PasswordHasher,
)
from fastapi_kit.auth.principal import Principal
from fastapi_kit.auth.tokens import IssuedToken, TokenService

__all__ = [
    "OWASP",
    "RFC_9106_LOW_MEMORY",
    "AccessClaims",
    "Argon2Profile",
    "Auth",
    "CacheInfo",
    "Credential",
    "ForbiddenError",
    "InsufficientScopeError",
    "InvalidCredentialsError",
    "IssuedToken",
    "Key",
    "KeySet",
    "Login",
    "MalformedCredentialsError",
    "MissingCredentialsError",
    "PasswordCheck",
    "PasswordHasher",
    "PasswordsBusyError",
    "Principal",
    "TokenError",
    "TokenResponse",
    "TokenService",
    "TokenVerifier",
    "login_router",
]
