"""What is issued verifies; nothing else does, and whatever it is, the error is a TokenError."""

import base64
import json
import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from fastapi_kit.auth import AccessClaims, Key, KeySet, TokenError, TokenService
from fastapi_kit.errors import ConfigurationError
from tests.auth.test_keys import ASYMMETRIC, RSA, pair_of, private_key, public_key, public_pem

SECRET = secrets.token_urlsafe(64)
KEY = Key.hmac(SECRET)
NOW = 1_800_000_000


class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


def service(keys: KeySet | None = None, **options: Any) -> TokenService:
    return TokenService(
        keys or KeySet(KEY),
        **{"issuer": "https://issuer.example", "audience": "api", "clock": Clock(), **options},
    )


def segment(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


HEADER = {"alg": "HS256", "typ": "at+jwt"}
CLAIMS = {"iss": "https://issuer.example", "aud": "api", "sub": "7", "exp": NOW + 60, "iat": NOW, "jti": "t"}


def signed(header: Any = HEADER, claims: Any = CLAIMS, key: Key = KEY) -> str:
    message = f"{segment(header)}.{segment(claims)}"
    return f"{message}.{segment(key.sign(message.encode()))}"


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in CLAIMS.items() if key != name}


def reason(token: str, tokens: TokenService | None = None) -> str:
    with pytest.raises(TokenError) as refused:
        (tokens or service()).verify(token)
    assert refused.value.headers == {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    return refused.value.reason


def test_what_is_issued_verifies_and_says_what_was_put_in() -> None:
    tokens = service()
    issued = tokens.issue("7", scopes=["b", "a"], claims={"tenant": "t1"})
    claims = tokens.verify(issued.token)
    assert (claims.subject, set(claims.scopes), claims.token_id) == ("7", {"a", "b"}, issued.token_id)
    assert (claims.issued_at, claims.expires_at, claims.not_before) == (NOW, NOW + 900, 0)
    assert claims.members["tenant"] == "t1"
    assert claims.members["client_id"] == "first-party"
    assert issued.expires_in == 900
    assert issued.token not in repr(issued)


def test_a_token_can_name_the_log_in_that_it_belongs_to() -> None:
    tokens = service()
    assert tokens.verify(tokens.issue("7", session_id="s").token).session_id == "s"
    assert tokens.verify(tokens.issue("7").token).session_id is None


def test_another_library_reads_it_as_rfc_9068_says() -> None:
    token = service(clock=__import__("time").time).issue("7", scopes=["a"]).token
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "at+jwt"}
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience="api", issuer="https://issuer.example")
    assert set(claims) == {"iss", "sub", "aud", "exp", "iat", "jti", "client_id", "scope"}


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512", *sorted({*ASYMMETRIC} - {"Ed25519"})])
def test_every_algorithm_agrees_with_another_library(algorithm: str) -> None:
    if algorithm.startswith("HS"):
        private = public = Key.hmac(SECRET, algorithm)
        signing: Any = SECRET
    else:
        private, public = private_key(algorithm), public_key(algorithm)
        signing = pair_of(algorithm)
    foreign = jwt.encode(CLAIMS, signing, algorithm, headers={"typ": "at+jwt"})
    assert service(KeySet(public)).verify(foreign).subject == "7"
    token = service(KeySet(private)).issue("7").token
    verifying = signing if isinstance(signing, str) else signing.public_key()
    assert jwt.decode(token, verifying, [algorithm], audience="api", options={"verify_iat": False, "verify_exp": False})


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", "HS512", "RS256", None, 1, ["HS256"], {}])
def test_an_algorithm_that_no_key_has_is_refused(alg: Any) -> None:
    assert reason(signed(HEADER | {"alg": alg})) in ("signature", "algorithm")
    unsigned = f"{segment(HEADER | {'alg': alg})}.{segment(CLAIMS)}."
    assert reason(unsigned) == "form"


def test_a_public_key_is_no_hmac_secret() -> None:
    pair = rsa.generate_private_key(65537, 2048)
    message = f"{segment(HEADER)}.{segment(CLAIMS)}"
    import hashlib
    import hmac

    mac = hmac.new(public_pem(pair), message.encode(), hashlib.sha256).digest()
    assert reason(f"{message}.{segment(mac)}", service(KeySet(Key.pem(public_pem(pair), "RS256")))) == "signature"


@pytest.mark.parametrize(
    "extra",
    [{"crit": ["b64"], "b64": False}, {"crit": []}, {"b64": True}, {"kid": 1}, {"kid": ["a"]}, {"kid": {}}],
)
def test_header_members_that_change_the_meaning_are_refused(extra: dict[str, Any]) -> None:
    assert reason(signed(HEADER | extra)) == "header"


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c"])
def test_keys_in_the_header_are_never_used(name: str) -> None:
    other = Key.hmac(secrets.token_urlsafe(64))
    value: Any = {"kty": "oct", "k": segment(b"x" * 64)} if name == "jwk" else "http://127.0.0.1:1/evil"
    assert reason(signed(HEADER | {name: value}, key=other)) == "signature"
    assert service().verify(signed(HEADER | {name: value})).subject == "7"


def test_a_kid_is_looked_up_and_nothing_else() -> None:
    old, new = Key.hmac(SECRET, kid="old"), Key.hmac(secrets.token_urlsafe(64), kid="new")
    tokens = service(KeySet(new, old))
    assert jwt.get_unverified_header(tokens.issue("7").token)["kid"] == "new"
    assert tokens.verify(signed(HEADER | {"kid": "old"}, key=old)).subject == "7"
    assert tokens.verify(signed(HEADER, key=old)).subject == "7"
    for kid in ["new", "../../etc/passwd", "' OR 1=1 --", "", "x" * 3000]:
        assert reason(signed(HEADER | {"kid": kid}, key=old), tokens) == "signature"
    assert reason(tokens.issue("7").token, service(KeySet(old))) == "signature"


@pytest.mark.parametrize("typ", [None, "JWT", "jwt", "refresh+jwt", "at", 1, ["at+jwt"], "at+jwt "])
def test_another_type_of_token_is_refused(typ: Any) -> None:
    assert reason(signed(HEADER | {"typ": typ})) == "type"


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt"])
def test_the_type_may_be_written_in_its_other_forms(typ: str) -> None:
    assert service().verify(signed(HEADER | {"typ": typ})).subject == "7"


def test_tokens_of_another_purpose_never_pass() -> None:
    reset, access = service(purpose="reset"), service()
    assert reason(reset.issue("7").token, access) == "type"
    assert reason(access.issue("7").token, reset) == "type"
    assert reset.verify(reset.issue("7").token).subject == "7"


def test_every_character_of_a_token_matters() -> None:
    token = signed()
    for position, character in enumerate(token):
        changed = token[:position] + ("A" if character != "A" else "B") + token[position + 1 :]
        reason(changed)
        reason(token[:position])


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "A" * 9000,
        signed() + "!!!",
        signed() + "=",
        signed() + "\n",
        " " + signed(),
        signed() + "." + signed(),
        signed().replace(".", ". "),
        "\ud800." + signed(),
        "\x00",
        "é.é.é",
        "٣.٣.٣",
    ],
    ids=range(18),  # a token holds the time, and every worker of a parallel run must find the same tests
)
def test_what_is_no_compact_token_is_refused(token: str) -> None:
    assert reason(token) in ("form", "size", "base64", "json")


def test_trailing_bits_that_no_encoder_makes_are_refused() -> None:
    message, signature = signed().rsplit(".", 1)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    sibling = alphabet[alphabet.index(signature[-1]) + 1]
    assert base64.urlsafe_b64decode(signature[:-1] + sibling + "=") == base64.urlsafe_b64decode(signature + "=")
    assert reason(f"{message}.{signature[:-1]}{sibling}") == "base64"
    assert reason(f"{message}.{signature}AA") in ("base64", "signature")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"alg":' + b"[" * 1200,
        b'{"alg":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"alg":' + b'{"a":' * 700 + b"1" + b"}" * 700 + b"}",
        b'{"alg":"HS256","alg":"none","typ":"at+jwt"}',
        b'{"alg":"HS256","typ":"at+jwt","x":NaN}',
        b'{"alg":"HS256","typ":"at+jwt","x":-Infinity}',
        b'{"alg":"HS256","typ":"at+jwt","x":1e999}',
        b'{"alg":"HS256","typ":"at+jwt","x":"\\ud800"}',
        b'{"alg":"HS256","typ":"at+jwt","x":' + b"9" * 4400 + b"}",
        b'["HS256"]',
        b'"HS256"',
        b"null",
        b"",
        b"{",
        b'{"alg":"HS256","typ":"at+jwt"} x',
        b"\xff\xfe",
        b'\xef\xbb\xbf{"alg":"HS256","typ":"at+jwt"}',
    ],
)
def test_a_header_or_claims_that_are_no_strict_json_object_are_refused(raw: bytes) -> None:
    assert reason(signed(raw)) in ("json", "size", "form", "type")
    # Nesting that the interpreter can parse is no error in claims that our own key signed.
    assert reason(signed(claims=raw)) in ("json", "size", "form", "issuer")


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        (without("exp"), "claims"),
        (CLAIMS | {"exp": None}, "claims"),
        (CLAIMS | {"exp": str(NOW + 60)}, "claims"),
        (CLAIMS | {"exp": True}, "claims"),
        (CLAIMS | {"exp": [NOW + 60]}, "claims"),
        (CLAIMS | {"exp": NOW}, "expired"),
        (CLAIMS | {"exp": NOW - 1}, "expired"),
        (CLAIMS | {"exp": -(10**400)}, "expired"),
        (CLAIMS | {"exp": -1e308}, "expired"),
        (CLAIMS | {"nbf": NOW + 1}, "not_yet_valid"),
        (CLAIMS | {"nbf": 10**400}, "not_yet_valid"),
        (CLAIMS | {"nbf": "now"}, "claims"),
        (CLAIMS | {"nbf": None}, "claims"),
        (CLAIMS | {"nbf": False}, "claims"),
        (CLAIMS | {"iat": NOW + 1}, "not_yet_valid"),
        (CLAIMS | {"iat": "x"}, "claims"),
        (CLAIMS | {"iat": {}}, "claims"),
        (without("iss"), "issuer"),
        (CLAIMS | {"iss": "https://issuer.example/"}, "issuer"),
        (CLAIMS | {"iss": ["https://issuer.example"]}, "issuer"),
        (without("aud"), "audience"),
        (CLAIMS | {"aud": "apis"}, "audience"),
        (CLAIMS | {"aud": []}, "audience"),
        (CLAIMS | {"aud": ["other"]}, "audience"),
        (CLAIMS | {"aud": ["api", 1]}, "audience"),
        (CLAIMS | {"aud": {"api": 1}}, "audience"),
        (without("sub"), "subject"),
        (CLAIMS | {"sub": ""}, "subject"),
        (CLAIMS | {"sub": 7}, "subject"),
        (CLAIMS | {"sub": None}, "subject"),
        (CLAIMS | {"jti": 7}, "claims"),
        (CLAIMS | {"jti": ""}, "claims"),
        (CLAIMS | {"scope": ["a"]}, "claims"),
        (CLAIMS | {"scope": None}, "claims"),
    ],
)
def test_a_claim_that_is_wrong_is_refused(claims: dict[str, Any], expected: str) -> None:
    assert reason(signed(claims=claims)) == expected


@pytest.mark.parametrize(
    "claims",
    [
        CLAIMS | {"aud": ["other", "api"]},
        CLAIMS | {"exp": NOW + 0.5},
        CLAIMS | {"exp": 10**400},
        CLAIMS | {"nbf": NOW},
        CLAIMS | {"nbf": -5.5},
        without("iat"),
        without("jti"),
        CLAIMS | {"sub": "ü \u2028 \U0001f600"},
    ],
)
def test_what_the_rfc_allows_is_accepted(claims: dict[str, Any]) -> None:
    assert isinstance(service().verify(signed(claims=claims)), AccessClaims)


def test_leeway_forgives_clocks_that_differ_and_no_more() -> None:
    tokens = service(leeway=timedelta(seconds=10))
    claims = CLAIMS | {"exp": NOW - 9, "iat": NOW + 10, "nbf": NOW + 10}
    assert tokens.verify(signed(claims=claims)).subject == "7"
    assert reason(signed(claims=CLAIMS | {"exp": NOW - 10}), tokens) == "expired"
    assert reason(signed(claims=CLAIMS | {"iat": NOW + 11}), tokens) == "not_yet_valid"


def test_the_client_learns_of_an_expiry_and_of_nothing_else() -> None:
    assert TokenError("expired").detail == "The token has expired."
    assert TokenError("signature").detail == "The credentials are not valid"


def test_the_cache_answers_until_the_token_expires_and_not_after() -> None:
    clock = Clock()
    tokens = service(clock=clock)
    token = tokens.issue("7", ttl=timedelta(seconds=5)).token
    for _ in range(3):
        tokens.verify(token)
    info = tokens.cache_info()
    assert (info.hits, info.misses, info.size, info.max_size) == (2, 1, 1, 4096)
    clock.now = NOW + 4.9
    tokens.verify(token)
    clock.now = NOW + 5
    assert reason(token, tokens) == "expired"
    clock.now = NOW - 1
    assert reason(token, tokens) == "not_yet_valid"


def test_the_cache_is_bounded_drops_the_least_used_and_holds_no_forged_token() -> None:
    tokens = service(cache_size=2)
    first, second, third = (tokens.issue(str(number)).token for number in range(3))
    for token in (first, second, first, third, first):
        assert tokens.verify(token).subject
    assert tokens.cache_info().hits == 2
    tokens.verify(second)
    assert tokens.cache_info().hits == 2
    for number in range(10):
        reason(first[:-4] + f"{number:04}", tokens)
    assert tokens.cache_info().size == 2
    hits = tokens.cache_info().hits
    tokens.verify(first)
    assert tokens.cache_info().hits == hits + 1


def test_no_cache_keeps_nothing() -> None:
    tokens = service(cache_size=0)
    token = tokens.issue("7").token
    assert tokens.verify(token) == tokens.verify(token)
    assert (tokens.cache_info().hits, tokens.cache_info().size) == (0, 0)


def test_claims_cannot_be_changed_for_the_next_request() -> None:
    tokens = service()
    claims = tokens.verify(tokens.issue("7", claims={"groups": ["a", {"b": [1]}]}).token)
    with pytest.raises(TypeError):
        claims.members["sub"] = "8"  # type: ignore[index]
    assert claims.members["groups"] == ("a", {"b": (1,)})
    with pytest.raises(TypeError):
        claims.members["groups"][1]["b"] = 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"issuer": ""}, "needs an issuer and an audience"),
        ({"audience": ""}, "needs an issuer and an audience"),
        ({"audience": ["api"]}, "needs an issuer and an audience, a str each"),
        ({"purpose": "AT"}, "purpose is 'AT': use small letters"),
        ({"purpose": ""}, "purpose is '': use small letters"),
        ({"ttl": timedelta(0)}, "choose 1 second to 24 hours"),
        ({"ttl": timedelta(days=2)}, "choose 1 second to 24 hours"),
        ({"leeway": timedelta(seconds=-1)}, "choose 0 to 5 minutes"),
        ({"leeway": timedelta(minutes=6)}, "choose 0 to 5 minutes"),
        ({"cache_size": -1}, "choose 0 for no cache"),
    ],
)
def test_a_wrong_setting_is_told_at_start_up(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        service(**options)


@pytest.mark.parametrize(
    ("issue", "message"),
    [
        (lambda tokens: tokens.issue(""), "the subject is empty"),
        (lambda tokens: tokens.issue("7", scopes=["a b"]), "these are no scopes"),
        (lambda tokens: tokens.issue("7", scopes=['"']), "these are no scopes"),
        (lambda tokens: tokens.issue("7", claims={"exp": 1, "aud": 2}), "the service's own: aud, exp"),
        (lambda tokens: tokens.issue("7", ttl=timedelta(days=2)), "choose 1 second to 24 hours"),
        (lambda tokens: tokens.issue("7", ttl=timedelta(seconds=-1)), "choose 1 second to 24 hours"),
        (lambda tokens: tokens.issue("7", claims={"a": "x" * 9000}), "would have 12[0-9]{3} bytes, 8192 are allowed"),
        (lambda tokens: tokens.issue("7", claims={"a": float("nan")}), "not JSON compliant"),
    ],
)
def test_what_cannot_be_issued_is_told(issue: Callable[[TokenService], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        issue(service())


def test_one_key_needs_no_set_and_a_secret_is_no_key() -> None:
    tokens = TokenService(KEY, issuer="i", audience="a")
    assert tokens.verify(tokens.issue("7").token).subject == "7"
    with pytest.raises(ConfigurationError, match="keys is a str: give a Key or a KeySet"):
        TokenService(SECRET, issuer="i", audience="a")  # type: ignore[arg-type]


def test_a_public_key_cannot_issue() -> None:
    with pytest.raises(ConfigurationError, match="the active key is public"):
        service(KeySet(Key.pem(public_pem(RSA), "RS256"))).issue("7")


@given(
    token=st.text() | st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}", fullmatch=True)
)
def test_no_text_makes_anything_but_a_token_error(token: str) -> None:
    reason(token)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    header=st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "zip"]), json_values),
    claims=st.dictionaries(st.sampled_from([*CLAIMS, "nbf", "scope"]), json_values),
)
def test_no_signed_json_makes_anything_but_claims_or_a_token_error(
    header: dict[str, Any], claims: dict[str, Any]
) -> None:
    for token in (signed(header, CLAIMS), signed(HEADER, claims), signed(HEADER, CLAIMS | claims)):
        try:
            assert service().verify(token).subject
        except TokenError:
            continue


@pytest.mark.parametrize("subject", [7, None, b"7"])
def test_a_subject_that_is_no_string_is_refused_where_it_is_given(subject: Any) -> None:
    with pytest.raises(ValueError, match=r"give the id of the user as a string, str\(user.id\)"):
        service().issue(subject)


@pytest.mark.parametrize("name", ["ttl", "leeway"])
def test_a_number_is_no_duration(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{name} is 900: give a timedelta, as in timedelta\(minutes=15\)"):
        service(None, **{name: 900})


def test_a_list_of_keys_is_told() -> None:
    keys: Any = [KEY]
    with pytest.raises(ConfigurationError, match=r"KeySet got a list: give keys one after the other"):
        KeySet(keys)


def test_a_refusal_names_its_reason_for_logs_where_redaction_leaves_it() -> None:
    assert str(TokenError("signature")) == "invalid_token (signature)"
