"""Sign in with an outside provider (OpenID Connect), then use tokens of this service's own.

pip install 'fastapi-service-kit[auth,db]' 'authlib>=1.9.9' httpx2 itsdangerous uvicorn
export OIDC_ISSUER=https://id.example OIDC_CLIENT_ID=... OIDC_CLIENT_SECRET=...
export PUBLIC_URL=https://shop.example SECRET_KEY=...  # its redirect URI at the provider: {PUBLIC_URL}/callback
uvicorn outside_login:app
"""

import hmac
import os
from typing import Annotated, Any

import httpx2
from authlib.integrations.starlette_client import OAuth, OAuthError
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from joserfc.errors import JoseError
from sqlalchemy import UniqueConstraint, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.middleware.sessions import SessionMiddleware

from fastapi_kit import errors
from fastapi_kit.auth import AccessClaims, Auth, Key, TokenCookies, TokenService
from fastapi_kit.db import Database


def setting(name: str) -> str:
    value = os.environ.get(name, "")
    if not value or (name in {"OIDC_ISSUER", "PUBLIC_URL"} and not value.startswith("https://")):
        raise errors.ConfigurationError(f"{name} is missing, or no https URL: set it in the environment")
    return value


ISSUER, CLIENT_ID, SECRET_KEY = setting("OIDC_ISSUER"), setting("OIDC_CLIENT_ID"), setting("SECRET_KEY")
PUBLIC_URL = setting("PUBLIC_URL")  # not from the request: a Host header can name any host


class Base(DeclarativeBase): ...


class User(Base):
    __tablename__ = "users"
    # A user is found by what the provider never gives to somebody else. An e-mail address is no such name: it may
    # not have been verified there, and it can get a new owner.
    __table_args__ = (UniqueConstraint("issuer", "subject"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    issuer: Mapped[str]
    subject: Mapped[str]
    name: Mapped[str]


class SignInError(errors.Problem):
    code = "sign_in_failed"
    status = 401
    title = "The sign-in failed; start it again"


db = Database(os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///./outside_login.db"), create_all=Base.metadata)
tokens = TokenService(Key.hmac(SECRET_KEY, setting="SECRET_KEY"), issuer=PUBLIC_URL, audience=PUBLIC_URL)
cookies = TokenCookies(tokens)
provider = OAuth().register(
    "provider",
    server_metadata_url=ISSUER.removesuffix("/") + "/.well-known/openid-configuration",
    client_id=CLIENT_ID,
    client_secret=setting("OIDC_CLIENT_SECRET"),
    client_kwargs={"scope": "openid profile", "code_challenge_method": "S256"},
)
EXPECTED = {"iss": {"essential": True, "value": ISSUER}, "aud": {"essential": True, "value": CLIENT_ID}}


async def load_user(claims: AccessClaims, session: Annotated[AsyncSession, db.per_request]) -> User | None:
    return await session.get(User, int(claims.subject))


auth = Auth([tokens, cookies], load_user)
app = FastAPI(title="Sign in with an outside provider", lifespan=db.lifespan)
errors.install(app)
app.add_middleware(  # keeps state, nonce and code verifier in the browser that begins to sign in
    SessionMiddleware,
    secret_key=hmac.digest(SECRET_KEY.encode(), b"sign-in", "sha256").hex(),
    session_cookie="__Host-sign-in",
    max_age=600,
    https_only=True,
)


@app.get("/login", status_code=302, response_class=RedirectResponse)
@errors.raises(errors.UnavailableError)
async def log_in(request: Request) -> Any:
    try:
        return await provider.authorize_redirect(request, f"{PUBLIC_URL}/callback")
    except httpx2.HTTPError:
        raise errors.UnavailableError("The provider does not answer.") from None


@app.get("/callback", status_code=303, response_class=RedirectResponse)
@errors.raises(SignInError, errors.UnavailableError)
async def finish(request: Request) -> Response:
    try:
        answer = await provider.authorize_access_token(request, claims_options=EXPECTED)
        person = answer["userinfo"]  # what the ID token says: its signature, iss, aud, exp and nonce are right
    except (OAuthError, JoseError, KeyError):
        raise SignInError from None
    except httpx2.HTTPError:
        raise errors.UnavailableError("The provider does not answer.") from None
    async with db.session() as session:
        user = await session.scalar(select(User).filter_by(issuer=ISSUER, subject=person["sub"]))
        if user is None:
            session.add(user := User(issuer=ISSUER, subject=person["sub"], name=person.get("name") or ""))
            await session.flush()
    request.session.clear()
    response = RedirectResponse("/users/me", 303)
    cookies.set(response, tokens.issue(str(user.id)))
    return response


@app.get("/users/me")
async def read_me(user: Annotated[User, Depends(auth.current_user)]) -> dict[str, int | str]:
    return {"id": user.id, "name": user.name}
