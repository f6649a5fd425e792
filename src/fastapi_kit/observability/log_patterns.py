r"""What a secret looks like in a text.

Each pattern is linear on any input: no repeat can be entered in two ways, what stands before a secret is not part of
the match, and a repeat that finds no end takes the rest instead of failing, or is bounded.
"""

import re
from collections.abc import Callable, Iterable

__all__ = ["REDACTED", "Rule", "name_source", "rules", "secret_name"]

REDACTED = "[redacted]"

Rule = tuple[Callable[[str, str], bool], re.Pattern[str], Callable[[re.Match[str]], str]]
"""Whether a text may have it, by the text and the text in small letters, which is quick; where; what replaces it."""

_WORDS = (
    r"passw(?:or)?d(?!less)|passwd|passphrase|passcode|(?<![a-z])pwd|secret(?!ar)|api[_\- ]?key|"
    r"token(?!i[sz]|s[\"']?\s{0,3}[:=]\s{0,3}\d{1,12}(?![\w.]))|"  # a language model counts in tokens
    r"(?:private|access|account|signing|encryption|master|shared)[_\- ]?key|credential|authorization|cookie|signature|"
    r"(?<![a-z])jwt|csrf|xsrf|(?<![a-z])otp(?![a-z])|client[_\-]?assertion|code[_\-]?verifier"
)
_TRIGGERS = (
    "passw", "passphrase", "passcode", "pwd", "secret", "token", "key", "credential", "authorization", "cookie",
    "signature", "jwt", "csrf", "xsrf", "otp", "assertion", "verifier", "sess", "sid", "code=", "input",
)  # fmt: skip
_EXACT = r"session[_\-]?id|(?:php|j)?sess(?:ion)?id|(?<![a-z])sid|(?<=[?&])code"
_HARMLESS = (
    "type", "count", "[_-]at", "[_-]in", "[_-]id", "name", "[_-]ur[il]", "expires", "expiry", "length", "size", "limit",
    "ttl", "seconds", "lifetime", "present", "valid", "version", "endpoint", "algorithm", "policy", "required",
    "enabled", "status", "banner", "kind",
)  # fmt: skip
"""With these at its end a name is about a secret, and tells none: `token_type`, `cookie_name`, `api_key_id`."""

_SEPARATOR = (
    r"(?::\s?(?:Optional\[)?(?:str|bytes|Any|Secret(?:Str|Bytes))\]?(?:\s?\|\s?None)?\s?=(?!=)|=>|:=|[:=]{1,2}|%3[AD]|"
    r">(?=[^\s<])|(?<=[\"']),(?=\s{0,3}[bBuU]?\\{0,8}[\"']))"
)
"""The first is a line of source in a traceback; the last is between name and value of a header, in a repr."""

_QUOTED = r"(?P<quote>\\{0,8}[\"'])[^\r\n]*?(?:(?<!\\)(?P=quote)|(?=[\r\n])|\Z)"
_PREFIX = r"(?:(?:[bfu]|[bf]?r|r[bf])(?=\\{0,8}[\"']))?"
"""Of a string in Python. Without the quote after it, it would be the first character of the secret."""
_BRACKETED = r"[{\[(][^\]})\r\n]*[\]})]?"
_BARE = r"(?:[^\s\"'&;<]|[\"'](?=\w))*[^\s\"'&;<,)\]}>.]"
_KEPT = r"(?!\[redacted\]|(?:None|null|true|false)\b)"


def name_source(words: Iterable[str]) -> str:
    """Return the source of a pattern for the end of a name that tells a secret, with the words of an app."""
    known = "|".join([_WORDS, *(re.sub("[ _-]+", lambda _: r"[_\- ]?", word) for word in words)])
    harmless = "".join(f"(?<!{ending})" for ending in _HARMLESS)
    return rf"(?:(?:{known})[\w\-]{{0,40}}(?![\w\-]){harmless}|(?:{_EXACT})(?![\w\-]))"


def secret_name(source: str) -> re.Pattern[str]:
    """Return a pattern that finds itself in the name of a field, as `secret_name(...).search`."""
    return re.compile(source + r"\W*\Z", re.IGNORECASE)


def _after(match: re.Match[str]) -> str:
    return match[1] + REDACTED


def _between(match: re.Match[str]) -> str:
    return match[1] + REDACTED + match[2]


def _whole(_: re.Match[str]) -> str:
    return REDACTED


def _value(match: re.Match[str]) -> str:
    quote = match["quote"] or ""
    return match[1] + quote + REDACTED + quote


def _password(match: re.Match[str]) -> str:
    return match[0] if match[2] is None else f"{match[1]}{REDACTED}@"


def _holds(*texts: str) -> Callable[[str, str], bool]:
    return lambda text, _: all(part in text for part in texts)


def _says(*words: str) -> Callable[[str, str], bool]:
    return lambda _, small: any(word in small for word in words)


def _is_long(text: str, _: str) -> bool:
    return len(text) >= 60


_PEM_BODY = r"[A-Za-z0-9+/=\s\\,:.'\"-]"
_SHAPES: tuple[Rule, ...] = (
    (
        _holds("PRIVATE KEY-----"),
        re.compile(
            rf"-----BEGIN[A-Z0-9 ]{{0,40}}PRIVATE KEY-----{_PEM_BODY}*?"
            rf"(?:-----END[A-Z0-9 ]{{0,40}}PRIVATE KEY-----|(?!{_PEM_BODY}))"
        ),
        _whole,
    ),
    (  # A host's port is no password. Without an "@" in the rest there is none for a later URL either.
        _holds("://", "@"),
        re.compile(
            r"(://[^\s:/@?#\"'<>\[]*:)(?!\d{1,5}(?:[/?#\s\"'<>,;)]|\Z))(?:([^\s\"<>]*)@|[^\s\"<>]*)",
        ),
        _password,
    ),
)
_LATER_SHAPES: tuple[Rule, ...] = (
    (
        _says("bearer "),
        re.compile(
            r"\b(bearer\s{1,3})(?!(?:tokens?|auth\w*|scheme|credentials?|header|realm|error|scope|is|was|and|or|not|for)\b"
            r"|\[redacted)[^\s\"',;<>)\]}]+",
            re.IGNORECASE,
        ),
        _after,
    ),
    (
        _says("basic "),
        re.compile(
            r"\b((?:Basic|BASIC)\s{1,3}(?!(?:[Aa]uth\w*|realm|[Cc]redentials?|[Uu]sage)\b)|"
            r"(?:basic)\s{1,3}(?=[a-z/+]{0,99}[A-Z0-9=]))[A-Za-z0-9+/_-]{2,}={0,2}"
        ),
        _after,
    ),
    (  # an API key of the kit, whose prefix and id are no secrets
        _is_long,
        re.compile(r"(_[0-9a-f]{24}_)[0-9A-Za-z]{16,}"),
        _after,
    ),
    (  # a refresh token of the kit, which is no part of a JWT; a digest in hex has no capital letters
        _is_long,
        re.compile(
            r"(?<![A-Za-z0-9_+/.-])(?=[a-z0-9_-]{0,63}[A-Z])(?=[A-Z0-9_-]{0,63}[a-z])"
            r"[A-Za-z0-9_-]{64}(?![A-Za-z0-9_+/-]|\.\w)"
        ),
        _whole,
    ),
    (_holds("eyJ"), re.compile(r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,4}"), _whole),
    (
        _holds("$"),
        re.compile(r"\$(?:argon2(?:id|i|d)|2[abxy]|scrypt|pbkdf2[\w-]{0,20}|[156y])\$[\w./+=,$-]{20,}"),
        _whole,
    ),
    (  # of Stripe, GitHub and AWS
        _says("k_live_", "k_test_", "ghp_", "gho_", "ghs_", "github_pat_", "akia"),
        re.compile(
            r"(?<![A-Za-z0-9])(?:[sr]k_(?:live|test)_[A-Za-z0-9]{10,}|gh[pos]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|"
            r"AKIA[A-Z0-9]{16})"
        ),
        _whole,
    ),
    # What the client sent, in the messages of SQLAlchemy, PostgreSQL and Pydantic.
    (_holds("[parameters: "), re.compile(r"(\[parameters: )[^\r\n]+"), _after),
    (_holds("Failing row contains ("), re.compile(r"(Failing row contains \()[^\r\n]+"), _after),
    (_holds("Key (", ")=("), re.compile(r"(Key \([^\r\n)]{1,200}\)=\()[^\r\n]*?(\) |[\r\n]|\Z)"), _between),
    (_holds("input_value="), re.compile(r"(input_value=)[^\r\n]{0,300}?(, input_type=|[\r\n]|\Z)"), _between),
)  # fmt: skip


def rules(names: str, words: Iterable[str], patterns: Iterable[re.Pattern[str]]) -> tuple[Rule, ...]:
    """Return all rules in their order, for the names of `name_source`, an app's own words and its own patterns."""
    lines = (  # whole lines, as they are sent
        _says("cookie", "authorization"),
        re.compile(
            r"((?:cookie|authorization)\s{0,3}[:=]\s{0,3})(?![bBuU]?\\{0,8}[\"'{])(?:(?!\\[rn])[^\r\n])+", re.IGNORECASE
        ),
        _after,
    )
    firsts = [word.lower().replace("-", " ").replace("_", " ").split()[0] for word in words]
    values = (
        _says(*_TRIGGERS, *firsts),
        re.compile(
            rf"((?:{names}|(?<=['\"])input)\\{{0,8}}[\"'\])]{{0,3}}\s{{0,3}}{_SEPARATOR}\s{{0,3}}{_PREFIX})"
            rf"{_KEPT}(?:{_QUOTED}|{_BRACKETED}|{_BARE})",
            re.IGNORECASE,
        ),
        _value,
    )
    own: list[Rule] = [(_always, pattern, _whole) for pattern in patterns]
    return (*_SHAPES, lines, values, *_LATER_SHAPES, *own)


def _always(_: str, __: str) -> bool:
    return True
