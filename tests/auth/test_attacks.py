"""No attack of the list succeeds: each fails for the reason that it should, and over HTTP with a 401 or a 400."""

import hmac
import socket
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from starlette.testclient import TestClient

from fastapi_kit import errors
from fastapi_kit.auth import AccessClaims, Auth, Key, KeySet, TokenError
from fastapi_kit.auth.jwk import keys_of_jwks
from fastapi_kit.errors import ConfigurationError
from tests.auth.attacks.algorithms import ALGORITHMS, confusing_secrets
from tests.auth.attacks.claims import CLAIMS_ATTACKS
from tests.auth.attacks.encodings import ENCODINGS
from tests.auth.attacks.extensions import EXTENSIONS
from tests.auth.attacks.forging import KEYS, SERVICES, Attack, forged, genuine, header, unsigned
from tests.auth.attacks.headers import HEADERS
from tests.auth.attacks.purposes import PURPOSES
from tests.auth.attacks.signatures import ORDER, SIGNATURES
from tests.auth.test_keys import CURVES, RSA, public_key, public_pem
from tests.auth.test_tokens import SECRET, service, signed

ATTACKS = [*ALGORITHMS, *SIGNATURES, *HEADERS, *EXTENSIONS, *ENCODINGS, *CLAIMS_ATTACKS, *PURPOSES]
attacks = pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])


@pytest.mark.parametrize("algorithm", KEYS)
def test_the_genuine_token_passes_where_the_attacks_fail(algorithm: str) -> None:
    assert SERVICES[algorithm].verify(genuine(algorithm)).subject == "7"


@attacks
def test_it_fails(attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: Any) -> None:
        raise AssertionError("a token made us open a connection")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    for _ in range(2):  # what failed must fail again: nothing of it was remembered
        with pytest.raises(TokenError) as refused:
            SERVICES[attack.on].verify(attack.token)
        assert refused.value.reason == attack.reason
    assert refused.value.detail in ("The credentials are not valid", "The token has expired.")


@pytest.fixture(scope="module")
def clients() -> dict[str, TestClient]:
    return {algorithm: TestClient(_app(algorithm)) for algorithm in SERVICES}


def _app(algorithm: str) -> FastAPI:
    def load_user(claims: AccessClaims) -> str:
        return claims.subject

    auth = Auth(SERVICES[algorithm], load_user)
    app = FastAPI()
    errors.install(app)

    @app.get("/")
    async def read(user: str = Depends(auth.current_user)) -> str:
        return user

    return app


def test_over_http_none_gets_more_than_a_401(clients: dict[str, TestClient]) -> None:
    for algorithm, client in clients.items():
        assert client.get("/", headers={"Authorization": f"Bearer {genuine(algorithm)}"}).status_code == 200
    for attack in ATTACKS:
        if len(attack.token) > 100_000 or attack.token.strip(" ") == genuine("HS256"):
            continue  # no server takes such a header; and spaces around a header's value are no part of it
        sent = b"Bearer " + attack.token.encode("utf-8", "surrogatepass")
        answer = clients[attack.on].get("/", headers={b"Authorization": sent})
        expected = (400, "invalid_request") if b" " in sent[7:].strip(b" ") else (401, "invalid_token")
        assert (answer.status_code, answer.json()["code"]) == expected, attack.name
        assert "WWW-Authenticate" in answer.headers


@pytest.mark.parametrize("form", ["PEM", "OpenSSH", "PKCS1 PEM", "PEM without its last newline", "PEM on one line"])
def test_a_public_key_is_no_secret_even_if_the_app_is_mistaken(form: str) -> None:
    with pytest.raises(ConfigurationError, match="a key file, not a secret"):
        Key.hmac(confusing_secrets(RSA)[form])


@pytest.mark.parametrize("secret", ["", "secret", "your-256-bit-secret", "your-256-bit-secret-your-256-bit-secret"])
def test_a_secret_that_can_be_guessed_is_never_a_key(secret: str) -> None:
    with pytest.raises(ConfigurationError):
        Key.hmac(secret)


def test_a_kid_cannot_choose_a_key_of_another_family() -> None:
    secret, pair = Key.hmac(SECRET, kid="secret"), public_key("RS256", "pair")
    tokens = service(KeySet(secret, pair))
    pem = public_pem(CURVES["ES256"])
    attempts = [
        forged(header("HS256", kid="pair"), lambda message: hmac.digest(pem, message, "sha256")),
        forged(header("RS256", kid="secret"), secret.sign),
        forged(header("HS256", kid="pair"), secret.sign),
        forged(header("RS256", kid="pair"), secret.sign),
    ]
    for token in attempts:
        with pytest.raises(TokenError) as refused:
            tokens.verify(token)
        assert refused.value.reason == "signature"
    assert tokens.verify(forged(header("HS256", kid="secret"), secret.sign)).subject == "7"


@pytest.mark.parametrize("more", [{"use": "enc"}, {"key_ops": ["encrypt"]}, {"key_ops": ["wrapKey", "unwrapKey"]}])
def test_a_key_for_encryption_verifies_nothing(more: dict[str, Any]) -> None:
    jwk = {name: value for name, value in public_key("RS256").public_jwk().items() if name != "use"} | more
    with pytest.raises(ConfigurationError):
        Key.jwk(jwk)
    assert not keys_of_jwks({"keys": [jwk]}, ["RS256"]).candidates("RS256", None)


def test_a_header_that_was_remembered_stands_for_its_own_signature_only() -> None:
    tokens = service(cache_size=0)
    token = signed()
    head, body, signature = token.split(".")
    assert tokens.verify(token).subject == "7"  # its header is known from now on
    other = signed(claims={"sub": "admin"}).split(".")
    for forged_token in (f"{head}.{other[1]}.{signature}", f"{head}.{body}.{other[2]}", f"{head}.{body}.AA"):
        with pytest.raises(TokenError) as refused:
            tokens.verify(forged_token)
        assert refused.value.reason == "signature"


def test_a_mirrored_ecdsa_signature_is_no_second_token() -> None:
    """(r, -s) is a signature wherever (r, s) is: what revokes a token must know it by its `jti`, not by its text."""
    message = unsigned(header("ES256"))
    raw = KEYS["ES256"].sign(message.encode())
    mirrored = raw[:32] + (ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    first, second = (SERVICES["ES256"].verify(forged(header("ES256"), one)) for one in (raw, mirrored))
    assert first == second
    assert first.token_id == "t"


def test_macs_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def spy(first: bytes, second: bytes) -> bool:
        compared.append((len(first), len(second)))
        return compare(first, second)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    assert not KEYS["HS256"].verify(b"message", b"x" * 32)
    assert KEYS["HS256"].verify(b"message", KEYS["HS256"].sign(b"message"))
    assert compared == [(32, 32), (32, 32)]
