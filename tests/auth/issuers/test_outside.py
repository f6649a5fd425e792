"""Tokens of an outside issuer, against an authorization server in another process, over TLS."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from fastapi_kit.auth import TokenError
from fastapi_kit.auth.issuers import IssuerUnavailableError, OutsideIssuer
from tests.auth.issuers.support import Authority, AuthorizationServer, Clock


def outside(server: AuthorizationServer, **settings: Any) -> OutsideIssuer:
    usual: dict[str, Any] = {"audience": "api", "http_client": server.authority.client, "clock": Clock()}
    return OutsideIssuer(server.url, **usual | settings)


async def reason(issuer: OutsideIssuer, token: str) -> str:
    with pytest.raises(TokenError) as caught:
        await issuer.verify(token)
    return caught.value.reason


@contextlib.asynccontextmanager
async def fetches(server: AuthorizationServer, expected: int) -> AsyncIterator[None]:
    before = await server.count("jwks")
    yield
    assert await server.count("jwks") - before == expected


# What passes, and what does not


@pytest.mark.anyio
@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
async def test_a_token_of_the_issuer_is_verified(server: AuthorizationServer, algorithm: str) -> None:
    await server.rotate(published=2, algorithm=algorithm)
    issuer = outside(server, subject_prefix="example|")
    claims = await issuer.verify(await server.token({"sub": "7", "scope": "read write", "jti": "t", "sid": "s"}))
    assert (claims.subject, claims.issuer, claims.token_id) == ("example|7", server.url, "t")
    assert claims.session_id is None  # it is no log-in of ours
    assert claims.scopes == {"read", "write"}
    assert claims.members["sub"] == "7"


@pytest.mark.anyio
async def test_keys_are_found_at_a_url_that_is_given(server: AuthorizationServer) -> None:
    before = await server.count("configuration")
    issuer = outside(server, jwks_url=f"{server.url}/jwks")
    assert (await issuer.verify(await server.token())).subject == "1"
    assert await server.count("configuration") == before


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("claims", "header", "expected"),
    [
        ({"iss": "https://localhost"}, {}, "issuer"),
        ({"aud": "another"}, {}, "audience"),
        ({"aud": None}, {}, "audience"),
        ({"aud": ["api", 1]}, {}, "audience"),
        ({"sub": None}, {}, "subject"),
        ({"sub": ""}, {}, "subject"),
        ({"exp": 1}, {}, "expired"),
        ({"exp": None}, {}, "claims"),
        ({"nbf": 2**40}, {}, "not_yet_valid"),
        ({"iat": 2**40}, {}, "not_yet_valid"),
        ({"jti": 7}, {}, "claims"),
        ({"scope": ["read"]}, {}, "claims"),
        ({}, {"typ": "JWT"}, "type"),
        ({}, {"typ": None}, "type"),
        ({}, {"typ": "rt+jwt"}, "type"),
        ({"at_hash": "x"}, {}, "type"),
        ({"c_hash": "x"}, {}, "type"),
        ({}, {"kid": "nobody's"}, "unknown_key"),
    ],
)
async def test_a_token_that_is_not_for_us_is_refused(
    server: AuthorizationServer, claims: dict[str, Any], header: dict[str, Any], expected: str
) -> None:
    assert await reason(outside(server), await server.token(claims, header)) == expected


@pytest.mark.anyio
@pytest.mark.parametrize("token", ["", "x", "a.b.c", "e30.e30.e30", "é.é.é", "\ud800", "." * 10_000])
async def test_a_string_that_is_no_token_is_refused(server: AuthorizationServer, token: str) -> None:
    await reason(outside(server), token)


@pytest.mark.anyio
async def test_one_of_several_audiences_suffices(server: AuthorizationServer) -> None:
    issuer = outside(server, audience=["api", "https://api.example"])
    assert (await issuer.verify(await server.token({"aud": ["other", "https://api.example"]}))).subject == "1"
    assert await reason(issuer, await server.token({"aud": ["other"]})) == "audience"


@pytest.mark.anyio
@pytest.mark.parametrize("sent", ["JWT", "jwt", "application/JWT"])
async def test_another_type_passes_when_it_is_named(server: AuthorizationServer, sent: str) -> None:
    issuer = outside(server, token_types=["JWT"])
    assert (await issuer.verify(await server.token(header={"typ": sent}))).subject == "1"
    assert await reason(issuer, await server.token(header={"typ": None})) == "type"
    assert await reason(issuer, await server.token()) == "type"


@pytest.mark.anyio
async def test_a_token_without_a_type_passes_only_when_that_is_asked_for(server: AuthorizationServer) -> None:
    issuer = outside(server, accept_untyped=True)
    assert (await issuer.verify(await server.token(header={"typ": None}))).subject == "1"
    assert (await issuer.verify(await server.token())).subject == "1"
    assert await reason(issuer, await server.token(header={"typ": "JWT"})) == "type"


@pytest.mark.anyio
async def test_an_id_token_is_no_access_token_even_where_types_are_loose(server: AuthorizationServer) -> None:
    issuer = outside(server, token_types=["JWT"], accept_untyped=True)
    id_token = await server.token({"nonce": "n", "at_hash": "x"}, {"typ": "JWT"})
    assert await reason(issuer, id_token) == "type"
    assert await reason(issuer, id_token) == "type"  # from the cache too


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("value", "expected"), [("a b", {"a", "b"}), (["a", "b"], {"a", "b"}), ([], set()), (None, set())]
)
async def test_scopes_are_read_from_the_claim_that_is_named(
    server: AuthorizationServer, value: Any, expected: set[str]
) -> None:
    claims = await outside(server, scope_claim="scp").verify(await server.token({"scp": value, "scope": "other"}))
    assert claims.scopes == expected


@pytest.mark.anyio
@pytest.mark.parametrize("value", [7, ["a", 7], {"a": "b"}])
async def test_scopes_that_are_no_names_are_refused(server: AuthorizationServer, value: Any) -> None:
    assert await reason(outside(server, scope_claim="scp"), await server.token({"scp": value})) == "claims"


@pytest.mark.anyio
async def test_leeway_forgives_clocks_that_differ(server: AuthorizationServer) -> None:
    clock = Clock()
    ahead, expired = (
        await server.token({"iat": int(clock.now) + 9}),
        await server.token({"exp": int(clock.now) - 9}),
    )
    for token in (ahead, expired):
        assert (await outside(server, clock=clock).verify(token)).subject == "1"
    strict = outside(server, leeway=timedelta(0), clock=clock)
    assert [await reason(strict, token) for token in (ahead, expired)] == ["not_yet_valid", "expired"]


# When keys are fetched


@pytest.mark.anyio
async def test_nothing_is_fetched_before_the_first_token(server: AuthorizationServer) -> None:
    async with fetches(server, 0):
        issuer = outside(server)
    async with fetches(server, 1):
        await issuer.verify(await server.token())
        await issuer.verify(await server.token())


@pytest.mark.anyio
async def test_a_hundred_first_requests_make_one_fetch(server: AuthorizationServer) -> None:
    issuer, token = outside(server), await server.token()
    async with fetches(server, 1):
        answers = await asyncio.gather(*(issuer.verify(token) for _ in range(100)))
    assert {claims.subject for claims in answers} == {"1"}
    assert issuer.cache_info().size == 1


@pytest.mark.anyio
async def test_a_caller_who_gives_up_does_not_end_the_fetch_for_the_others(server: AuthorizationServer) -> None:
    issuer, token = outside(server), await server.token()
    async with fetches(server, 1):
        impatient, patient = asyncio.create_task(issuer.verify(token)), asyncio.create_task(issuer.verify(token))
        await asyncio.sleep(0)
        impatient.cancel()
        assert (await patient).subject == "1"
    assert impatient.cancelled()


@pytest.mark.anyio
async def test_old_keys_serve_while_new_ones_are_fetched(server: AuthorizationServer) -> None:
    clock = Clock()
    issuer, token = outside(server, clock=clock), await server.token()
    await issuer.verify(token)
    asked = await server.count("jwks")
    await server.behave(jwks="hang")
    clock.now += 600
    async with asyncio.timeout(30):
        for _ in range(3):
            assert (await issuer.verify(token)).subject == "1"
    assert await server.count("jwks", at_least=asked + 1) == asked + 1  # and it still hangs
    await issuer.aclose()


@pytest.mark.anyio
async def test_a_key_that_is_gone_verifies_nothing_once_that_is_known(server: AuthorizationServer) -> None:
    issuer = outside(server)
    old = await server.token()
    await issuer.verify(old)
    await server.rotate(published=1)
    await issuer.refresh()
    assert await reason(issuer, old) == "unknown_key"
    assert (await issuer.verify(await server.token())).subject == "1"


@pytest.mark.anyio
async def test_verified_tokens_are_remembered_while_the_keys_stay_the_same(server: AuthorizationServer) -> None:
    issuer, token = outside(server), await server.token()
    assert issuer.cache_info().size == 0
    for _ in range(3):
        await issuer.verify(token)
    await issuer.refresh()
    await issuer.verify(token)
    assert (issuer.cache_info().hits, issuer.cache_info().misses) == (3, 1)
    await server.rotate(published=2)
    await issuer.refresh()
    assert issuer.cache_info().size == 0


@pytest.mark.anyio
async def test_an_expired_token_is_refused_by_the_cache_too(server: AuthorizationServer) -> None:
    clock = Clock()
    issuer, token = outside(server, clock=clock), await server.token({"exp": int(clock.now) + 60})
    await issuer.verify(token)
    clock.now += 70
    assert await reason(issuer, token) == "expired"


@pytest.mark.anyio
async def test_a_key_that_is_not_known_yet_is_fetched_at_once(server: AuthorizationServer) -> None:
    clock = Clock()
    issuer = outside(server, clock=clock)
    old = await server.token()
    await issuer.verify(old)
    await server.rotate(published=2)
    clock.now += 30
    new = await server.token()
    async with fetches(server, 1):
        answers = await asyncio.gather(*(issuer.verify(token) for token in [new, old] * 50))
    assert len(answers) == 100


@pytest.mark.anyio
async def test_a_flood_of_unknown_keys_makes_one_fetch_in_each_cool_down(server: AuthorizationServer) -> None:
    clock = Clock()
    issuer = outside(server, clock=clock)
    await issuer.refresh()
    forged = [await server.forged_token() for _ in range(10)]
    for fetched in (0, 1, 0):
        async with fetches(server, fetched):
            answers = await asyncio.gather(*(reason(issuer, token) for token in forged * 20))
            assert set(answers) == {"unknown_key"}
            answers = await asyncio.gather(*(reason(issuer, token) for token in forged))
            assert set(answers) == {"unknown_key"}
        clock.now += 29 if fetched else 30


@pytest.mark.anyio
async def test_an_algorithm_that_is_not_accepted_makes_no_fetch(server: AuthorizationServer) -> None:
    clock = Clock()
    issuer = outside(server, algorithms=["RS256"], clock=clock)
    await issuer.refresh()
    clock.now += 60
    async with fetches(server, 0):
        assert await reason(issuer, await server.token()) == "signature"


@pytest.mark.anyio
async def test_a_clock_that_is_set_back_has_the_keys_fetched_again(server: AuthorizationServer) -> None:
    clock = Clock()
    issuer, token = outside(server, clock=clock), await server.token({"iat": 1})
    await issuer.verify(token)
    asked = await server.count("jwks")
    clock.now -= 3600
    await issuer.verify(token)
    await server.count("jwks", at_least=asked + 1)
    await issuer.aclose()


def test_it_works_in_one_event_loop_after_another(shared_server: AuthorizationServer) -> None:
    clock = Clock()
    issuer = outside(shared_server, clock=clock)

    async def leave_a_fetch_under_way() -> None:
        await shared_server.behave(jwks="hang")
        asked = await shared_server.count("jwks")
        waiting = asyncio.create_task(issuer.verify("x"))
        await shared_server.count("jwks", at_least=asked + 1)
        waiting.cancel()

    async def verify() -> None:
        await shared_server.behave()
        assert (await issuer.verify(await shared_server.token())).subject == "1"
        clock.now += 600

    with asyncio.Runner() as standing_still:
        standing_still.run(leave_a_fetch_under_way())
        for _ in range(3):
            asyncio.run(verify())


@pytest.mark.anyio
async def test_a_client_is_made_off_the_event_loop_and_outside_of_the_request(server: AuthorizationServer) -> None:
    request_id: ContextVar[str] = ContextVar("request_id", default="none")
    seen: list[tuple[str, bool]] = []

    def client() -> httpx2.AsyncClient:
        seen.append((request_id.get(), threading.current_thread() is threading.main_thread()))
        return server.authority.client()

    request_id.set("of the request that happens to begin it")
    await outside(server, http_client=client).verify(await server.token())
    assert seen == [("none", False)]


# When the issuer does not answer as it should


@pytest.mark.anyio
async def test_an_issuer_that_is_down_is_a_503_until_it_is_up(authority: Authority) -> None:
    clock = Clock()
    server = AuthorizationServer(authority)
    issuer = outside(server, clock=clock)
    with pytest.raises(IssuerUnavailableError) as caught:
        await issuer.verify("x")
    assert (caught.value.status_code, caught.value.headers) == (503, {"Retry-After": "5"})
    assert "localhost" not in str(caught.value.detail)
    assert "ConnectError" in str(caught.value.__cause__)
    with server.running():
        with pytest.raises(IssuerUnavailableError):  # not asked again so soon
            await issuer.verify("x")
        clock.now += 5
        assert (await issuer.verify(await server.token())).subject == "1"


@pytest.mark.anyio
async def test_known_keys_serve_when_the_issuer_goes_down_but_not_for_ever(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    server = AuthorizationServer(authority)
    issuer = outside(server, clock=clock)
    with server.running():
        token, other = await server.token(), await server.token({"sub": "2"})
        forged = await server.forged_token()
        await issuer.verify(token)
    clock.now += 3600
    assert (await issuer.verify(token)).subject == "1"
    with pytest.raises(IssuerUnavailableError):  # nobody knows whether there is such a key by now
        await issuer.verify(forged)
    assert (await issuer.verify(other)).subject == "2"
    assert f"{server.url} could not be fetched" in caplog.text
    clock.now += 23 * 3600
    with pytest.raises(IssuerUnavailableError):
        await issuer.verify(token)


@pytest.mark.anyio
async def test_an_issuer_that_hangs_holds_up_nobody_whose_key_is_known(server: AuthorizationServer) -> None:
    clock = Clock()
    issuer = outside(server, clock=clock, timeout=timedelta(seconds=1))
    token, forged = await server.token(), await server.forged_token()
    await issuer.verify(token)
    asked = await server.count("jwks")
    await server.behave(jwks="hang")
    clock.now += 600
    waiting = [asyncio.create_task(issuer.verify(forged)) for _ in range(20)]
    await server.count("jwks", at_least=asked + 1)
    assert [(await issuer.verify(token)).subject for _ in range(20)] == ["1"] * 20
    assert not any(task.done() for task in waiting)
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(answer) for answer in answers} == {IssuerUnavailableError}
    with pytest.raises(IssuerUnavailableError):  # at once, without another fetch
        await issuer.verify(forged)
    assert await server.count("jwks") == asked + 1


@pytest.mark.anyio
async def test_closing_ends_a_fetch_and_who_waited_for_it_gets_a_503(server: AuthorizationServer) -> None:
    issuer = outside(server)
    await issuer.aclose()  # nothing is under way
    asked = await server.count("jwks")
    await server.behave(jwks="hang")
    waiting = asyncio.create_task(issuer.verify("x"))
    await server.count("jwks", at_least=asked + 1)
    await issuer.aclose()
    with pytest.raises(IssuerUnavailableError):
        await waiting
    await server.behave()
    assert (await issuer.verify(await server.token())).subject == "1"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        ({"jwks": "fail"}, "answers 500, not 200"),
        ({"jwks": "redirect"}, "answers 307, not 200"),
        ({"configuration": "redirect"}, "answers 307, not 200"),
        ({"jwks": "oversize"}, "more than 262144 bytes"),
        ({"jwks": "gzip"}, "in an encoding that was not asked for"),
        ({"jwks": "drip"}, "no answer within 0.5 seconds"),
        ({"jwks": "hang"}, "no answer within 0.5 seconds"),
        ({"configuration": "hang"}, "no answer within 0.5 seconds"),
        ({"jwks": "<html>"}, "no strict JSON object"),
        ({"jwks": "[]"}, "no strict JSON object"),
        ({"jwks": '{"keys": [], "keys": []}'}, "no strict JSON object"),
        ({"jwks": "[" * 100_000}, "no strict JSON object"),
        ({"jwks": '{"keys": {}}'}, "no array `keys`"),
        ({"jwks": "{}"}, "no array `keys`"),
        ({"configuration": {"issuer": "https://localhost"}}, "is of the issuer 'https://localhost'"),
        ({"configuration": {"issuer": None}}, "is of the issuer None"),
        ({"configuration": {"jwks_uri": None}}, "jwks_uri of the OpenID configuration cannot be used, it is absent"),
        ({"configuration": {"jwks_uri": "http://localhost/jwks"}}, "must begin with https://"),
        ({"configuration": {"jwks_uri": "file:///etc/passwd"}}, "must begin with https://"),
        ({"configuration": {"jwks_uri": "https://user:secret@localhost/"}}, "no user"),
        ({"configuration": {"jwks_uri": "https://localhost:x/"}}, "it is no URL"),
        ({"configuration": {"jwks_uri": "https:///jwks"}}, "must have a host"),
        ({"configuration": {"jwks_uri": "https://localhost/" + "x" * 2048}}, "more than 2048 characters"),
    ],
)
async def test_a_wrong_answer_gives_no_keys(server: AuthorizationServer, behaviour: dict[str, Any], told: str) -> None:
    elsewhere = await server.count("elsewhere")
    await server.behave(**behaviour)
    issuer = outside(server, timeout=timedelta(seconds=0.5))
    with pytest.raises(IssuerUnavailableError) as caught:
        await issuer.refresh()
    assert told in str(caught.value.__cause__)
    assert "secret" not in str(caught.value.__cause__)
    with pytest.raises(IssuerUnavailableError):
        await issuer.verify(await server.token())
    assert await server.count("elsewhere") == elsewhere


@pytest.mark.anyio
async def test_a_wrong_answer_leaves_the_keys_that_are_known(server: AuthorizationServer) -> None:
    issuer, token = outside(server), await server.token()
    await issuer.refresh()
    await server.behave(jwks="garbage")
    with pytest.raises(IssuerUnavailableError):
        await issuer.refresh()
    assert (await issuer.verify(token)).subject == "1"


@pytest.mark.anyio
async def test_an_issuer_that_publishes_no_key_has_no_valid_tokens(
    server: AuthorizationServer, caplog: pytest.LogCaptureFixture
) -> None:
    issuer, token = outside(server), await server.token()
    await issuer.verify(token)
    assert "publishes no key" not in caplog.text
    await server.behave(jwks='{"keys": []}')
    await issuer.refresh()
    assert f"{server.url} publishes no key for ES256, EdDSA, RS256" in caplog.text
    assert await reason(issuer, token) == "unknown_key"


@pytest.mark.anyio
async def test_a_certificate_of_an_unknown_authority_is_refused_and_the_environment_not_asked(
    server: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(server.authority.root))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    issuer = outside(server, http_client=None)
    with pytest.raises(IssuerUnavailableError) as caught:
        await issuer.verify(await server.token())
    assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value.__cause__)


@pytest.mark.anyio
async def test_a_fault_in_the_maker_of_the_client_is_not_hidden(server: AuthorizationServer) -> None:
    def broken() -> httpx2.AsyncClient:
        raise LookupError("no such setting")

    with pytest.raises(LookupError, match="no such setting"):
        await outside(server, http_client=broken).verify("x")
