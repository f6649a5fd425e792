"""Who is calling, and may they: tokens, passwords, the current user and guards."""

from fastapi_kit.auth.api_keys import ApiKeyInfo, ApiKeys, NewApiKey
from fastapi_kit.auth.attempts import AttemptLimit
from fastapi_kit.auth.cache import CacheInfo
from fastapi_kit.auth.claims import AccessClaims
from fastapi_kit.auth.cookie_login import CookieLoginResponse, cookie_login_router
from fastapi_kit.auth.cookies import TokenCookies
from fastapi_kit.auth.credentials import Credential, TokenVerifier
from fastapi_kit.auth.errors import (
    CsrfError,
    ForbiddenError,
    InsufficientScopeError,
    InvalidApiKeyError,
    InvalidCredentialsError,
    InvalidGrantError,
    InvalidScopeError,
    MalformedCredentialsError,
    MissingCredentialsError,
    PasswordsBusyError,
    TokenError,
)
from fastapi_kit.auth.guards import Auth
from fastapi_kit.auth.jwks import jwks_router
from fastapi_kit.auth.keys import Key, KeySet
from fastapi_kit.auth.login import TokenPairResponse, TokenResponse, login_router
from fastapi_kit.auth.password_login import Login
from fastapi_kit.auth.passwords import (
    OWASP,
    RFC_9106_LOW_MEMORY,
    Argon2Profile,
    PasswordCheck,
    PasswordHasher,
)
from fastapi_kit.auth.principal import Principal
from fastapi_kit.auth.sessions import Sessions, TokenPair
from fastapi_kit.auth.tokens import IssuedToken, TokenService

__all__ = [
    "OWASP",
    "RFC_9106_LOW_MEMORY",
    "AccessClaims",
    "ApiKeyInfo",
    "ApiKeys",
    "Argon2Profile",
    "AttemptLimit",
    "Auth",
    "CacheInfo",
    "CookieLoginResponse",
    "Credential",
    "CsrfError",
    "ForbiddenError",
    "InsufficientScopeError",
    "InvalidApiKeyError",
    "InvalidCredentialsError",
    "InvalidGrantError",
    "InvalidScopeError",
    "IssuedToken",
    "Key",
    "KeySet",
    "Login",
    "MalformedCredentialsError",
    "MissingCredentialsError",
    "NewApiKey",
    "PasswordCheck",
    "PasswordHasher",
    "PasswordsBusyError",
    "Principal",
    "Sessions",
    "TokenCookies",
    "TokenError",
    "TokenPair",
    "TokenPairResponse",
    "TokenResponse",
    "TokenService",
    "TokenVerifier",
    "cookie_login_router",
    "jwks_router",
    "login_router",
]
