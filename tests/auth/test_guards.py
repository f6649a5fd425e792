"""Who is let in, who is told what (RFC 6750), and that it costs one look-up a request."""

import asyncio
import functools
import json
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Security, WebSocket
from fastapi.params import Depends as Params
from starlette.testclient import TestClient, WebSocketDenialResponse

from fastapi_kit import errors
from fastapi_kit.auth import AccessClaims, Auth, Key, KeySet, Principal, TokenService
from fastapi_kit.errors import ConfigurationError, NotFoundError, raises
from tests.auth.test_tokens import segment


@dataclass
class User:
    id: str
    role: str = "viewer"
    is_active: bool = True


USERS = {
    "1": User("1", "admin"),
    "2": User("2", "editor"),
    "3": User("3"),
    "4": User("4", "admin", is_active=False),
}
KEY = Key.hmac(secrets.token_urlsafe(64))
tokens = TokenService(KeySet(KEY), issuer="https://issuer.example", audience="api")


class Lookups:
    """A dependency of `load_user` that counts how often it was resolved, and the user looked up."""

    resolved = 0
    loaded = 0

    async def __call__(self) -> "Lookups":
        self.resolved += 1
        return self


lookups = Lookups()


async def load_user(claims: AccessClaims, counter: Annotated[Lookups, Depends(lookups)]) -> User | None:
    counter.loaded += 1
    return USERS.get(claims.subject)


auth = Auth(
    tokens,
    load_user,
    is_active=lambda user: user.is_active,
    roles=lambda user: [user.role],
    role_hierarchy={"admin": ["editor"], "editor": ["viewer"]},
    token_url="/auth/token",
    scopes={"read": "Read things"},
)
CurrentUser = Annotated[User, Depends(auth.current_user)]


@raises(NotFoundError)
async def thing_owner(thing_id: str) -> str:
    if thing_id == "0":
        raise NotFoundError
    return thing_id


def make_app() -> FastAPI:
    app = FastAPI()
    errors.install(app)
    nested = APIRouter(dependencies=[Depends(auth.require_any_role("admin", "auditor"))])

    @app.get("/me")
    async def me(user: CurrentUser) -> User:
        return user

    @app.get("/maybe")
    async def maybe(user: Annotated[User | None, Depends(auth.optional_user)]) -> User | None:
        return user

    @app.get("/open")
    async def open_() -> str:
        return "open"

    @nested.get("/admin")
    async def admin(user: CurrentUser) -> User:
        return user

    @app.get("/editor")
    async def editor(user: Annotated[User, Depends(auth.require_any_role("editor"))]) -> User:
        return user

    @app.get("/both", dependencies=[Depends(auth.require_all_roles("admin", "viewer"))])
    async def both() -> str:
        return "both"

    @app.get("/all-scopes", dependencies=[Depends(auth.require_all_scopes("read", "write"))])
    async def all_scopes(user: CurrentUser) -> str:
        return "all"

    @app.get("/any-scope", dependencies=[Depends(auth.require_any_scope("read", "write"))])
    async def any_scope(user: CurrentUser) -> str:
        return "any"

    @app.get("/security")
    async def security(user: Annotated[User, Security(auth.current_user, scopes=["read"])], same: CurrentUser) -> str:
        return "security"

    @app.delete("/things/{thing_id}")
    async def thing(
        user: Annotated[User, Depends(auth.require_owner(thing_owner, or_any_role=["admin"]))],
    ) -> User:
        return user

    @app.get("/own/{thing_id}", dependencies=[Depends(auth.require_owner(thing_owner))])
    async def own(thing_id: str) -> str:
        return thing_id

    @app.websocket("/ws")
    async def ws(websocket: WebSocket, user: CurrentUser) -> None:
        await websocket.accept()
        await websocket.send_text(user.id)
        await websocket.close()

    app.include_router(nested, prefix="/v1")
    return app


app = make_app()


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client
    app.dependency_overrides.clear()


def bearer(subject: str, *scopes: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens.issue(subject, scopes=scopes).token}"}


def check(response: Any, status: int, code: str, challenge: str | None) -> None:
    assert response.status_code == status, response.text
    assert response.json()["code"] == code
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers.get("www-authenticate") == challenge


INVALID = 'Bearer error="invalid_token"'
MALFORMED = 'Bearer error="invalid_request"'


def test_the_user_of_the_token_is_the_current_user(client: TestClient) -> None:
    assert client.get("/me", headers=bearer("2")).json() == {"id": "2", "role": "editor", "is_active": True}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_scheme_is_case_insensitive_and_spaces_are_allowed(client: TestClient, scheme: str) -> None:
    header = {"Authorization": f"{scheme}   {tokens.issue('1').token}"}
    assert client.get("/me", headers=header).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic YTpi"}, {"Authorization": ""}])
@pytest.mark.parametrize("path", ["/me", "/v1/admin", "/all-scopes", "/security", "/own/0"])
def test_missing_credentials_are_a_401_with_a_bare_challenge(
    client: TestClient, path: str, headers: Mapping[str, str]
) -> None:
    check(client.get(path, headers=headers), 401, "missing_credentials", "Bearer")


def test_a_token_in_the_query_alone_is_not_read(client: TestClient) -> None:
    token = tokens.issue("1").token
    check(client.get(f"/me?access_token={token}"), 401, "missing_credentials", "Bearer")


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer ")],
        [("Authorization", "Bearer a b")],
        [("Authorization", "Bearer a"), ("Authorization", "Bearer b")],
        [("Authorization", "Bearer a"), ("Authorization", "Basic b")],
    ],
)
def test_malformed_credentials_are_a_400(client: TestClient, headers: list[tuple[str, str]]) -> None:
    check(client.get("/me", headers=headers), 400, "invalid_request", MALFORMED)


def test_another_parameter_is_no_second_method(client: TestClient) -> None:
    assert client.get("/me?old_access_token=x&a=access_token=y", headers=bearer("1")).status_code == 200


def test_two_methods_at_once_are_a_400(client: TestClient) -> None:
    check(client.get("/me?access_token=x", headers=bearer("1")), 400, "invalid_request", MALFORMED)


def test_every_bad_token_is_the_same_401(client: TestClient) -> None:
    good = tokens.issue("1").token
    nested_json = segment(b'{"alg":' + b"[" * 1200) + ".e30.e30"
    unsigned = f"{segment({'alg': 'none', 'typ': 'at+jwt'})}.{good.split('.')[1]}."
    changed = good[:-5] + ("A" if good[-5] != "A" else "B") + good[-4:]
    bodies = set()
    for token in [nested_json, unsigned, changed, "x", "\xff", tokens.issue("9").token, tokens.issue("4").token]:
        response = client.get("/me", headers=[(b"authorization", f"Bearer {token}".encode("latin-1"))])
        check(response, 401, "invalid_token", INVALID)
        bodies.add(json.dumps({k: v for k, v in response.json().items() if k != "request_id"}))
    assert len(bodies) == 1


def test_an_optional_user_is_none_without_credentials_and_a_401_with_bad_ones(client: TestClient) -> None:
    assert client.get("/maybe").json() is None
    assert client.get("/maybe", headers=bearer("1")).json()["id"] == "1"
    check(client.get("/maybe", headers={"Authorization": "Bearer x"}), 401, "invalid_token", INVALID)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/v1/admin", {"1"}), ("/editor", {"1", "2"}), ("/both", {"1"}), ("/me", {"1", "2", "3"})],
)
def test_roles_with_their_hierarchy(client: TestClient, path: str, allowed: set[str]) -> None:
    for subject in ("1", "2", "3"):
        response = client.get(path, headers=bearer(subject))
        if subject in allowed:
            assert response.status_code == 200
        else:
            check(response, 403, "forbidden", None)


@pytest.mark.parametrize(
    ("path", "scopes", "challenge"),
    [
        ("/all-scopes", ["read"], 'Bearer error="insufficient_scope", scope="read write"'),
        ("/all-scopes", [], 'Bearer error="insufficient_scope", scope="read write"'),
        ("/all-scopes", ["write", "read", "more"], None),
        ("/any-scope", ["other"], 'Bearer error="insufficient_scope", scope="read write"'),
        ("/any-scope", ["write"], None),
        ("/security", ["write"], 'Bearer error="insufficient_scope", scope="read"'),
        ("/security", ["read"], None),
    ],
)
def test_scopes_all_any_and_by_security(
    client: TestClient, path: str, scopes: list[str], challenge: str | None
) -> None:
    response = client.get(path, headers=bearer("3", *scopes))
    if challenge is None:
        assert response.status_code == 200
    else:
        check(response, 403, "insufficient_scope", challenge)


def test_the_owner_or_an_admin(client: TestClient) -> None:
    assert client.delete("/things/3", headers=bearer("3")).json()["id"] == "3"
    assert client.delete("/things/3", headers=bearer("1")).json()["id"] == "1"
    check(client.delete("/things/3", headers=bearer("2")), 403, "forbidden", None)
    check(client.delete("/things/0", headers=bearer("3")), 404, "not_found", None)
    assert client.get("/own/3", headers=bearer("3")).status_code == 200
    check(client.get("/own/3", headers=bearer("1")), 403, "forbidden", None)


@pytest.mark.parametrize("path", ["/me", "/v1/admin", "/all-scopes", "/security", "/any-scope"])
def test_one_look_up_a_request_however_many_guards(client: TestClient, path: str) -> None:
    headers = bearer("1", "read", "write")
    before = (lookups.resolved, lookups.loaded)
    assert client.get(path, headers=headers).status_code == 200
    assert (lookups.resolved, lookups.loaded) == (before[0] + 1, before[1] + 1)


def test_a_bad_token_loads_no_user(client: TestClient) -> None:
    before = lookups.loaded
    client.get("/me", headers={"Authorization": "Bearer x"})
    assert lookups.loaded == before


def test_one_override_covers_the_current_user_and_every_guard(client: TestClient) -> None:
    user = User("77", "admin")
    app.dependency_overrides[auth.authenticate] = lambda: Principal(
        user, "77", scopes=frozenset({"read", "write"}), roles=frozenset({"admin", "editor", "viewer"})
    )
    assert client.get("/maybe").json()["id"] == "77"
    for path in ["/me", "/v1/admin", "/editor", "/both", "/all-scopes", "/any-scope", "/security", "/own/77"]:
        assert client.get(path).status_code == 200, path
    assert client.get("/me").json()["id"] == "77"


def test_a_websocket_has_the_same_current_user(client: TestClient) -> None:
    with client.websocket_connect("/ws", headers=bearer("2")) as socket:
        assert socket.receive_text() == "2"
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/ws"):
        pass
    assert denied.value.status_code == 401
    assert denied.value.json()["code"] == "missing_credentials"


def test_openapi_names_401_and_403_on_exactly_the_routes_that_answer_them() -> None:
    paths = app.openapi()["paths"]
    statuses = {
        path: set(next(iter(item.values()))["responses"]) - {"200", "422", "default"} for path, item in paths.items()
    }
    assert statuses["/open"] == set()
    assert statuses["/me"] == statuses["/maybe"] == {"400", "401"}
    for path in ("/v1/admin", "/editor", "/both", "/all-scopes", "/any-scope", "/security", "/own/{thing_id}"):
        expected = {"400", "401", "403"} | ({"404"} if "own" in path else set())
        assert statuses[path] == expected, path


def test_openapi_names_the_scheme_and_the_scopes() -> None:
    schema = app.openapi()
    flow = schema["components"]["securitySchemes"]["Login"]["flows"]["password"]
    assert flow == {"tokenUrl": "/auth/token", "scopes": {"read": "Read things"}}
    assert schema["paths"]["/me"]["get"]["security"] == [{"Login": []}]
    assert schema["paths"]["/all-scopes"]["get"]["security"] == [{"Login": ["read", "write"]}]
    assert "security" not in schema["paths"]["/open"]["get"]


def test_without_a_log_in_the_scheme_is_a_field_for_a_token() -> None:
    plain, other = Auth(tokens, load_user), FastAPI()

    @other.get("/me")
    async def me(user: Annotated[User, Depends(plain.current_user)]) -> User:
        return user

    assert other.openapi()["components"]["securitySchemes"]["Bearer"] == {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
    }
    client = TestClient(other)  # no errors.install: FastAPI's own body, the right status and challenge
    response = client.get("/me")
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert client.get("/me", headers=bearer("4")).json()["id"] == "4"


def test_load_user_may_be_sync_or_an_object() -> None:
    class Loader:
        async def __call__(self, claims: AccessClaims) -> User | None:
            return USERS.get(claims.subject)

    def load(claims: AccessClaims, counter: Annotated[Lookups, Depends(lookups)]) -> User | None:
        return USERS.get(claims.subject)

    for loader in (Loader(), load):
        other, own = FastAPI(), Auth[User](tokens, loader)

        @other.get("/me")
        async def me(user: Annotated[User, Depends(own.current_user)]) -> User:
            return user

        assert TestClient(other).get("/me", headers=bearer("2")).json()["id"] == "2"


async def no_user(claims: AccessClaims) -> User | None:
    return None


@functools.wraps(no_user)
def wrapped(*args: Any) -> Any:
    return no_user(*args)


@pytest.mark.parametrize(
    "load_user",
    [
        lambda claims: no_user(claims),  # noqa: PLW0108  # sync, and it gives a coroutine
        wrapped,
        lambda claims: False,
        functools.partial(no_user),
    ],
    ids=["lambda", "wrapped", "False", "partial"],
)
def test_no_user_is_no_user_however_it_is_told(load_user: Any) -> None:
    app = FastAPI()
    app.get("/")(as_endpoint(Auth[Any](tokens, load_user).current_user))
    assert TestClient(app).get("/", headers=bearer("1")).status_code == 401


def as_endpoint(dependency: Any) -> Any:
    async def endpoint(
        given: Annotated[Any, dependency if isinstance(dependency, Params) else Depends(dependency)],
    ) -> str:
        return "passed"

    return endpoint


async def is_active_later(user: User) -> bool:
    return False


@pytest.mark.parametrize(
    "options",
    [
        {"is_active": lambda user: asyncio.Event()},
        {"roles": lambda user: "admin"},
        {"load_user": lambda claims: (user for user in [User("1")])},
    ],
    ids=["no bool", "roles", "generator"],
)
def test_what_cannot_be_understood_lets_nobody_in(options: dict[str, Any]) -> None:
    app = FastAPI()
    app.get("/")(as_endpoint(Auth[Any](tokens, **{"load_user": load_user, **options}).current_user))
    client = TestClient(app, raise_server_exceptions=False)
    assert client.get("/", headers=bearer("1")).status_code == 500


def test_scopes_asked_of_any_dependency_are_checked() -> None:
    async def admin(user: Annotated[User, Depends(auth.require_any_role("admin"))]) -> User:
        return user

    dependencies = [
        auth.current_user,
        auth.optional_user,
        auth.principal,
        auth.require_any_role("admin"),
        auth.require_all_roles("admin"),
        auth.require_any_scope("r"),
        auth.require_all_scopes("r"),
        auth.require_owner(thing_owner),
        admin,
    ]
    for dependency in dependencies:
        app = FastAPI()
        app.get("/{thing_id}")(as_endpoint(Security(dependency, scopes=["s"])))
        client = TestClient(app)
        response = client.get("/1", headers=bearer("1", "r"))
        assert response.status_code == 403, dependency
        assert "insufficient_scope" in response.headers["www-authenticate"]
        assert client.get("/1").status_code == 401, dependency
        assert client.get("/1", headers=bearer("1", "r", "s")).status_code == 200, dependency


def test_an_owner_is_not_looked_up_for_an_anonymous_caller(client: TestClient) -> None:
    check(client.delete("/things/0"), 401, "missing_credentials", "Bearer")


def test_an_owner_that_is_no_string_lets_nobody_in_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async def numeric_owner() -> int:
        return 1

    app = FastAPI()
    errors.install(app)
    app.get("/")(as_endpoint(auth.require_owner(numeric_owner)))
    assert TestClient(app).get("/", headers=bearer("1")).status_code == 500
    assert "the owner must be a str as the token's subject is, not int" in caplog.text


def test_strings_and_empty_names_in_place_of_lists_are_told_at_start_up() -> None:
    with pytest.raises(ConfigurationError, match=r"a role guard got the string 'admin'.*write \['admin'\]"):
        auth.require_owner(thing_owner, or_any_role="admin")
    with pytest.raises(ConfigurationError, match=r"role_hierarchy\['admin'\] got the string 'editor'"):
        Auth(tokens, load_user, role_hierarchy={"admin": "editor"})
    with pytest.raises(ConfigurationError, match="a role guard needs a role"):
        auth.require_any_role("")
    with pytest.raises(ConfigurationError, match=r"a role guard got \[\['admin'\]\]: give each name as a string"):
        auth.require_any_role(["admin"])  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="is_active must be sync"):
        Auth(tokens, load_user, is_active=is_active_later)  # type: ignore[arg-type]


def test_a_load_user_that_cannot_work_is_told_at_start_up() -> None:
    def nothing() -> None: ...

    def keyword_only(*, claims: AccessClaims) -> None: ...

    def unresolvable(claims: AccessClaims, session: "NoSuchName") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    def from_the_query(
        claims: AccessClaims, request: Request, page: Annotated[int, Query()], tenant: str = ""
    ) -> None: ...

    def everything(claims: AccessClaims, counter: Lookups = Depends(lookups), **rest: Any) -> None: ...

    def yielding(claims: AccessClaims) -> Iterator[User]:
        yield User("1")

    async def yielding_async(claims: AccessClaims) -> AsyncIterator[User]:
        yield User("1")

    async def wrong_way_round(counter: Annotated[Lookups, Depends(lookups)], claims: AccessClaims) -> User | None:
        return None

    with pytest.raises(ConfigurationError, match="load_user takes the claims first, then its dependencies"):
        Auth[Any](tokens, wrong_way_round)  # type: ignore[arg-type]
    for generator in (yielding, yielding_async):
        with pytest.raises(ConfigurationError, match="load_user must return its result, not yield it"):
            Auth[Any](tokens, generator)
    for loader in (nothing, keyword_only):
        with pytest.raises(ConfigurationError, match="load_user must take the claims as its first"):
            Auth(tokens, loader)  # type: ignore[arg-type]
    for parameter in ("tenant", "rest"):
        with pytest.raises(ConfigurationError, match=f"load_user has the parameter '{parameter}', which FastAPI would"):
            Auth(tokens, from_the_query if parameter == "tenant" else everything)
    with pytest.raises(ConfigurationError, match=r"load_user: an annotation cannot be resolved .*NoSuchName"):
        Auth(tokens, unresolvable)


def test_guards_that_would_let_everybody_or_nobody_pass_are_told_at_start_up() -> None:
    for guard in (auth.require_any_scope, auth.require_all_scopes):
        with pytest.raises(ConfigurationError, match="needs a scope"):
            guard()
    for guard in (auth.require_any_role, auth.require_all_roles):
        with pytest.raises(ConfigurationError, match="needs a role"):
            guard()
    plain = Auth(tokens, load_user)
    with pytest.raises(ConfigurationError, match=r"role guards need Auth\(\.\.\., roles="):
        plain.require_any_role("admin")


def test_a_principal_never_shows_the_claims() -> None:
    issued = tokens.issue("1", claims={"email": "s3cret@example.com"})
    assert "s3cret" not in repr(tokens.verify(issued.token))


def test_a_user_that_is_an_exception_lets_nobody_pass() -> None:
    def give_an_error(claims: AccessClaims) -> Any:
        return LookupError("no such user")

    wrong = Auth(tokens, give_an_error)
    app = FastAPI()

    @app.get("/")
    async def read(user: Annotated[Any, Depends(wrong.current_user)]) -> None: ...

    with pytest.raises(TypeError, match="load_user returned LookupError: raise it, or return the user or None"):
        TestClient(app).get("/", headers=bearer("1"))


def test_an_override_that_gives_a_user_in_place_of_a_principal_is_told(client: TestClient) -> None:
    app.dependency_overrides[auth.authenticate] = lambda: USERS["1"]
    plain = FastAPI()
    plain.include_router(app.router)
    plain.dependency_overrides = app.dependency_overrides
    with pytest.raises(TypeError, match=r"authenticate gave a User: give Principal\(user, subject='1'\)"):
        TestClient(plain).get("/me")
