"""JSON and base64 that mean two things, or too much (RFC 8725, 2.4 and 3.4)."""

import json

from tests.auth.attacks.forging import BODY, HEAD, SIGNATURE, Attacks, genuine
from tests.auth.test_tokens import CLAIMS, KEY, segment, signed

__all__ = ["ENCODINGS"]

ENCODINGS = Attacks()
add = ENCODINGS.add


def raw_header(text: str) -> str:
    return signed(text.encode())


def raw_claims(text: str) -> str:
    """Return a token of our own key whose claims begin as they should, and then go on with this text."""
    return signed(claims=json.dumps(CLAIMS)[:-1].encode() + b"," + text.encode() + b"}")


add("alg twice, none first", raw_header('{"alg":"none","alg":"HS256","typ":"at+jwt"}'), "json")
add("alg twice, none last", raw_header('{"alg":"HS256","typ":"at+jwt","alg":"none"}'), "json")
add("alg twice, once escaped", raw_header('{"alg":"HS256","typ":"at+jwt","\\u0061lg":"none"}'), "json")
add("kid twice", raw_header('{"alg":"HS256","typ":"at+jwt","kid":"a","kid":"b"}'), "json")
add("sub twice", raw_claims('"sub":"admin"'), "json")
add("exp twice", raw_claims('"exp":9999999999'), "json")
add("a member twice, deep inside", raw_claims('"a":[{"b":{"c":1,"c":2}}]'), "json")
for number in (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    "1" + "0" * 5000,
    "01",
    "0x10",
    "+1",
    "1.",
    ".5",
    "1_0",
):
    shown = number[:12]
    add(f"claim is {shown}", raw_claims(f'"x":{number}'), "json")
    add(f"header member is {shown}", raw_header(f'{{"alg":"HS256","typ":"at+jwt","x":{number}}}'), "json")
for what, text in {
    "a comment": '"x":1/**/',
    "a trailing comma": '"x":1,',
    "single quotes": "'x':1",
    "a bare word": '"x":undefined',
    "a lone surrogate": '"x":"\\ud800"',
    "a control character": '"x":"\n"',
    "an unfinished string": '"x":"',
}.items():
    add(f"claims have {what}", raw_claims(text), "json")
for what, raw in {
    "UTF-16": json.dumps(CLAIMS).encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps(CLAIMS).encode(),
    "invalid UTF-8": b'{"sub":"\xff"}',
    "overlong UTF-8": b'{"sub":"\xc0\xaf"}',
    "an array": b"[]",
    "a string": b'"x"',
    "a number": b"1",
    "null": b"null",
    "nothing but spaces": b"  ",
    "two objects": b"{}{}",
    "a NUL": b"\0",
    "YAML": b"sub: 7",
    "XML": b"<sub>7</sub>",
}.items():
    add(f"claims are {what}", signed(claims=raw), "json")
    add(f"header is {what}", signed(raw), "json")
for depth in (100, 500, 900, 1500):
    for what, text in {"arrays": "[" * depth + "]" * depth, "open arrays": "[" * depth * 2}.items():
        add(f"{what}, {depth} deep, in the claims", raw_claims(f'"x":{text}'), "json")
        add(f"{what}, {depth} deep, in the header", raw_header(f'{{"alg":"HS256","x":{text}}}'), "json")
for depth in (100, 400, 700):
    text = '{"a":' * depth + "1" + "}" * depth
    add(f"objects, {depth} deep, in the claims", raw_claims(f'"x":{text}'), "json")
    add(f"objects, {depth} deep, in the header", raw_header(f'{{"alg":"HS256","x":{text}}}'), "json")
for size in (8193, 100_000, 5_000_000):
    add(f"token of {size} bytes", HEAD + "." + BODY + "." + "A" * (size - len(HEAD) - len(BODY) - 2), "size")
    add(f"{size} dots", "." * size, "size")
add("8192 dots", "." * 8192, "form")
add("8190 letters in a row", "A" * 8190, "form")

TOKEN = genuine("HS256")
for what, text in {
    "padding": TOKEN + "=",
    "padding after each segment": f"{HEAD}==.{BODY}==.{SIGNATURE}=",
    "padding as %3D": TOKEN + "%3D",
    "a newline at the end": TOKEN + "\n",
    "a newline at the start": "\n" + TOKEN,
    "CRLF inside": TOKEN[:9] + "\r\n" + TOKEN[9:],
    "a space at the end": TOKEN + " ",
    "a space inside": TOKEN[:9] + " " + TOKEN[9:],
    "a tab": TOKEN + "\t",
    "a NUL": TOKEN + "\0",
    "junk at the end": TOKEN + "!!!",
    "a soft hyphen": TOKEN[:9] + "\u00ad" + TOKEN[9:],
    "a byte order mark": "\ufeff" + TOKEN,
    "quotes": f'"{TOKEN}"',
    "its name before it": "Bearer " + TOKEN,
    "a comma and itself": f"{TOKEN},{TOKEN}",
    "full-width dots": TOKEN.replace(".", "\uff0e"),
    "dots as %2E": TOKEN.replace(".", "%2E"),
    "colons": TOKEN.replace(".", ":"),
    "a full-width letter": chr(ord(TOKEN[0]) + 0xFEE0) + TOKEN[1:],
    "a fourth segment": TOKEN + ".AA",
    "a first segment": "AA." + TOKEN,
    "an empty fourth segment": TOKEN + ".",
    "an empty first segment": "." + TOKEN,
    "a lone surrogate": "\ud800" + TOKEN,
    "a plus": TOKEN[:-1] + "+",
    "a slash": TOKEN[:-1] + "/",
}.items():
    add(f"genuine token with {what}", text, "form")
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def with_trailing_bits(text: str) -> str:
    """Return another text for the same bytes, which no encoder makes."""
    return text[:-1] + ALPHABET[ALPHABET.index(text[-1]) + 1]


LOOSE = segment(json.dumps(CLAIMS).encode().ljust(200)), segment(b'{"alg":"HS256","typ":"at+jwt"}  ')
for what, message in {
    "claims": f"{HEAD}.{with_trailing_bits(LOOSE[0])}",
    "header": f"{with_trailing_bits(LOOSE[1])}.{BODY}",
}.items():
    add(f"{what} with trailing bits, signed", f"{message}.{segment(KEY.sign(message.encode()))}", "base64")
add("signature with trailing bits", f"{HEAD}.{BODY}.{with_trailing_bits(SIGNATURE)}", "base64")
add("signature with a character more", TOKEN + "AA", "base64")
add("signature with four characters more", TOKEN + "AAAA", "signature")
