"""Several kinds of credentials, and permissions: one principal, whatever opened the route."""

import secrets
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.openapi.models import HTTPBase
from starlette.requests import HTTPConnection
from starlette.testclient import TestClient

from fastapi_kit import errors
from fastapi_kit.auth import AccessClaims, Auth, Key, Principal, TokenCookies, TokenError, TokenService
from fastapi_kit.errors import ConfigurationError, UnavailableError, raises

tokens = TokenService(Key.hmac(secrets.token_urlsafe(64)), issuer="i", audience="a")


class Signature:
    """A credential of an app's own: a header whose whole text is the user."""

    scheme_name = "Signature"
    model = HTTPBase(scheme="signature")
    challenge = ""
    problems = (TokenError, UnavailableError)

    def find(self, connection: HTTPConnection) -> str | None:
        return connection.headers.get("x-signature")

    async def verify(self, value: str, connection: HTTPConnection) -> AccessClaims:
        if not value:
            raise TokenError("empty")
        return AccessClaims(value, "signature", frozenset({"read"}), None, None, None, 0, 2e9, {})


class Remote:
    """A verifier that answers later, and may be away."""

    @raises(UnavailableError)
    async def verify(self, token: str) -> AccessClaims:
        if token == "down":
            raise UnavailableError
        return tokens.verify(token)


async def load_user(claims: AccessClaims) -> str:
    return claims.subject


def roles(user: str) -> list[str]:
    return {"1": ["admin"], "2": ["editor"]}.get(user, [])


PERMISSIONS = {"admin": ["refund"], "editor": ["write", "read"]}


def make_client(**options: Any) -> TestClient:
    auth = Auth(
        [Remote(), Signature()],
        load_user,
        **{"roles": roles, "role_hierarchy": {"admin": ["editor"]}, "permissions": PERMISSIONS, **options},
    )
    app = FastAPI()
    errors.install(app)

    @app.get("/me")
    async def me(caller: Annotated[Principal[str], Depends(auth.principal)]) -> dict[str, Any]:
        claims = caller.claims
        assert claims is not None
        return {
            "user": caller.user,
            "issuer": claims.issuer,
            "scopes": sorted(caller.scopes),
            "permissions": sorted(caller.permissions),
        }

    @app.get("/any", dependencies=[Depends(auth.require_any_permission("refund", "read"))])
    async def any_of() -> None: ...

    @app.get("/all", dependencies=[Depends(auth.require_all_permissions("refund", "read"))])
    async def all_of() -> None: ...

    return TestClient(app)


def bearer(subject: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens.issue(subject).token}"}


def test_each_kind_gives_the_same_principal() -> None:
    client = make_client()
    permissions = ["read", "refund", "write"]
    assert client.get("/me", headers=bearer("1")).json() == {
        "user": "1",
        "issuer": "i",
        "scopes": [],
        "permissions": permissions,
    }
    assert client.get("/me", headers={"X-Signature": "1"}).json() == {
        "user": "1",
        "issuer": "signature",
        "scopes": ["read"],
        "permissions": permissions,
    }


def test_both_at_once_are_a_400_and_neither_a_401() -> None:
    client = make_client()
    both = client.get("/me", headers={**bearer("1"), "X-Signature": "2"})
    assert (both.status_code, both.json()["code"]) == (400, "invalid_request")
    neither = client.get("/me")
    assert (neither.status_code, neither.headers["www-authenticate"]) == (401, "Bearer")
    assert client.get("/me", headers={"X-Signature": ""}).status_code == 401


def test_a_verifier_that_cannot_answer_lets_nobody_pass() -> None:
    response = make_client().get("/me", headers={"Authorization": "Bearer down"})
    assert (response.status_code, response.json()["code"]) == (503, "service_unavailable")


def test_openapi_lists_every_way_and_what_each_can_answer() -> None:
    app: Any = make_client().app
    schema = app.openapi()
    operation = schema["paths"]["/any"]["get"]
    assert operation["security"] == [{"Bearer": []}, {"Signature": []}]
    assert set(operation["responses"]) == {"200", "400", "401", "403", "503", "default"}
    assert set(schema["components"]["securitySchemes"]) == {"Bearer", "Signature"}


@pytest.mark.parametrize(("user", "any_status", "all_status"), [("1", 200, 200), ("2", 200, 403), ("3", 403, 403)])
def test_permissions_come_from_roles_and_those_they_include(user: str, any_status: int, all_status: int) -> None:
    client = make_client()
    assert client.get("/any", headers=bearer(user)).status_code == any_status
    response = client.get("/all", headers=bearer(user))
    assert response.status_code == all_status
    if all_status == 403:
        assert response.json()["code"] == "forbidden"


def test_permissions_may_come_from_the_user() -> None:
    client = make_client(permissions=lambda user: ["read"] if user == "3" else ["refund", "read"])
    assert client.get("/all", headers=bearer("3")).status_code == 403
    assert client.get("/all", headers=bearer("1")).status_code == 200


def test_permissions_that_are_a_string_let_nobody_pass() -> None:
    with pytest.raises(TypeError, match="permissions gave a str: it must give a list"):
        TestClient(make_plain(lambda user: "refund"), raise_server_exceptions=True).get("/", headers=bearer("1"))


def make_plain(permissions: Any) -> FastAPI:
    auth = Auth(tokens, load_user, permissions=permissions)
    app = FastAPI()

    @app.get("/", dependencies=[Depends(auth.require_any_permission("refund"))])
    async def read() -> None: ...

    return app


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Auth(tokens, load_user).require_any_permission("x"), "permission guards need Auth"),
        (lambda: Auth(tokens, load_user, permissions={"admin": "all"}), "in place of a list"),
        (lambda: Auth(tokens, load_user, permissions={}).require_all_permissions(), "needs a permission"),
        (lambda: Auth(tokens, load_user, permissions=wrong(later)), "permissions must be sync"),
        (lambda: Auth(tokens, load_user, roles=wrong(later)), "roles must be sync"),
        (lambda: Auth([], load_user), "give one or more"),
        (lambda: Auth([tokens, tokens], load_user), "each of another kind; Issuers"),
        (lambda: Auth([TokenCookies(tokens), TokenCookies(tokens)], load_user), "each of another kind"),
        (lambda: Auth("secret", load_user), "credentials has a str"),  # type: ignore[arg-type]
        (lambda: Auth(Key.hmac(secrets.token_urlsafe(64)), load_user), "credentials has a Key"),  # type: ignore[call-overload]
    ],
)
def test_what_cannot_work_is_told_at_start_up(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


def wrong(value: object) -> Any:
    return value


async def later(user: str) -> list[str]:
    return ["admin"]


@pytest.mark.parametrize("roles", [{"admin": False}, "admin", None])
def test_roles_that_are_no_list_let_nobody_pass(roles: Any) -> None:
    auth = Auth(tokens, load_user, roles=lambda user: roles)
    app = FastAPI()

    @app.get("/", dependencies=[Depends(auth.require_any_role("admin"))])
    async def read() -> None: ...

    with pytest.raises(TypeError, match="it must give a list"):
        TestClient(app).get("/", headers=bearer("1"))


def test_why_a_caller_was_refused_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "fastapi_kit.auth")
    other = TokenService(Key.hmac(secrets.token_urlsafe(64)), issuer="i", audience="a").issue("1").token
    response = make_client().get("/me", headers={"Authorization": f"Bearer {other}"})
    assert response.json()["detail"] == "The credentials are not valid"
    assert caplog.messages == ["A caller was refused (signature), code invalid_token"]


def test_scopes_are_asked_of_every_way_to_authenticate() -> None:
    auth = Auth([Remote(), Signature()], load_user)
    app = FastAPI()

    @app.get("/", dependencies=[Depends(auth.require_all_scopes("read"))])
    async def read() -> None: ...

    assert app.openapi()["paths"]["/"]["get"]["security"] == [{"Bearer": ["read"]}, {"Signature": ["read"]}]


def test_without_errors_install_the_detail_says_what_is_wrong() -> None:
    app = make_plain({"admin": ["refund"]})
    assert TestClient(app).get("/").json() == {"detail": "Authentication is required"}
