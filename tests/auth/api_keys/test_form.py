"""The text of a key: made in one form, and read in no other."""

import re
import zlib
from collections.abc import Callable

import pytest

from fastapi_kit.auth import InvalidApiKeyError
from fastapi_kit.auth.api_keys.form import KeyForm
from fastapi_kit.errors import ConfigurationError

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
form = KeyForm("kit")


def reason_of(text: str) -> str:
    with pytest.raises(InvalidApiKeyError) as error:
        form.id_of(text)
    return error.value.reason


def test_a_key_has_a_prefix_an_id_and_256_bits() -> None:
    made = {form.new() for _ in range(50)}
    assert len({key_id for key_id, _ in made}) == len({key for _, key in made}) == 50
    for key_id, key in made:
        assert re.fullmatch(r"kit_[0-9a-f]{24}_[0-9A-Za-z]{49}", key)
        assert form.id_of(key) == key_id == key.split("_")[1]
    assert 62**43 >= 2**256


def test_every_digit_is_used_in_secrets() -> None:
    assert {letter for _ in range(50) for letter in form.new()[1].split("_")[2][:43]} == set(BASE62)


def test_the_checksum_is_the_crc32_of_all_before_it_as_a_scanner_would_compute_it() -> None:
    for _ in range(20):
        key = form.new()[1]
        value = 0
        for digit in key[-6:]:
            value = value * 62 + BASE62.index(digit)
        assert value == zlib.crc32(key[:-6].encode())


def test_every_single_typo_is_found_without_a_look_up() -> None:
    key = form.new()[1]
    for at, letter in enumerate(key):
        for other in "0aZ_":
            if other != letter:
                assert reason_of(key[:at] + other + key[at + 1 :]) in {"form", "checksum"}
        assert reason_of(key[:at] + key[at + 1 :]) == "form"


@pytest.mark.parametrize(
    "change",
    [
        lambda key: "",
        lambda key: key + "\n",
        lambda key: " " + key,
        lambda key: key + key,
        lambda key: key * 10_000,
        lambda key: key + ", " + key,
        lambda key: "Bearer " + key,
        lambda key: key.replace("kit", "kid", 1),
        lambda key: key.replace("kit_", "kit", 1),
        lambda key: key.replace("_", "__", 1),
        lambda key: key.swapcase(),
        lambda key: key.replace("_", "\uff3f"),
        lambda key: key[:-1] + "\u0661",  # an Arabic-Indic digit
        lambda key: key[:-1] + "\0",
        lambda key: key[:-1] + "\udcff",
    ],
)
def test_no_other_form_is_read(change: Callable[[str], str]) -> None:
    assert reason_of(change(form.new()[1])) == "form"


@pytest.mark.parametrize("prefix", ["", "k", "Kit", "ki_t", "kit-live", "k" * 17, "kät", "kit\n", "k.t"])
def test_a_prefix_is_small_letters_and_digits(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match=r"prefix is .*: use 2 to 16 small letters and digits"):
        KeyForm(prefix)
