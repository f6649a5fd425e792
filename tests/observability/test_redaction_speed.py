"""No text takes more than a small multiple of the time that plain text of its length takes."""

import time

import pytest

from fastapi_kit.observability import Redactor

SIZE = 60_000
PLAIN = ("The password token of it has no value here; see http://h/x of ann@b. " * (SIZE // 60))[:SIZE]

TAIL = " PRIVATE KEY----- :// @ eyJ bearer basic token cookie $ [parameters: Key ( )=( input_value= ?code= ghp_"
"""Lets each rule run."""


def seconds(text: str) -> float:
    redactor = Redactor()
    started = time.process_time()
    redactor.text(text)
    return time.process_time() - started


@pytest.fixture(scope="module")
def plain() -> float:
    return min(seconds(PLAIN + TAIL) for _ in range(3))


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "token",
            "token=",
            "token='",
            'token="',
            'token=\\"',
            'token\\"',
            "token='\\",
            "token:\\\\",
            "token-",
            "tokens",
        ),
        *(
            "token=,",
            "token=, ",
            "token=[",
            "token=({",
            "token: str = ",
            "password\\\\\\",
            "token\n",
            "token\t",
            "input'",
        ),
        *("://", "://a:", "a://b:c", "://a:1/", "://a:x@", "@", "x://u:p ", '://a:"@', "://["),
        *("eyJ", "eyJ.", "eyJaaaaaaaa", "eyJaaaaaaaa.", "a.b.c", "-", "_", "aB", "aB-", "A" * 64, "a" * 63 + "B "),
        *("-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----\n-----END", "PRIVATE KEY-----("),
        *("Bearer ", "bearer a ", "basic a", "basic aaaa ", "basic   ", "Basic/", "bearer token "),
        *("cookie:", "cookie: a\\", "authorization=", "authorization: '", "cookie=\\r", "set-cookie: x\n"),
        *("_0123456789abcdef01234567", "_0123456789abcdef01234567_", "$2b$", "$argon2id$a", "$1$", "pbkdf2-$pbkdf2"),
        *(
            "[parameters: ",
            "Key (",
            "Key (a)=(",
            "Key (a)=(b) ",
            "input_value=",
            "Failing row contains (",
            "?code=",
            "&code",
        ),
        *(
            "=",
            ":",
            "'",
            '"',
            "\\",
            " ",
            "\n",
            "(",
            "x",
            "\x00",
            "\u2028",
            "\ud800",
            "k" * 41,
            "private key",
            "sess",
            "sid",
        ),
        *(
            "token=b",
            "token=rb",
            "token=b\\",
            "sk_live_",
            "sk_live_a",
            "ghp_a",
            "github_pat_",
            "github_pat_a ",
            "AKIAA",
        ),
    ],
)
def test_time_is_linear_in_hostile_text(unit: str, plain: float) -> None:
    text = (unit * (SIZE // len(unit) + 1))[:SIZE]
    assert seconds(text + TAIL) < 15 * plain
