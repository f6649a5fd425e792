"""Keys as they are stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_kit.ratelimit.keys import bounded


@pytest.mark.parametrize(
    ("who", "stored"),
    [
        ("", ""),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::", "2001:db8::"),
        ("a/b", "a%2Fb"),
        ("a%2Fb", "a%252Fb"),
        ("x" * 64, "x" * 64),
        ("x" * 65, "sha256:9537c5fdf120482f7d58d25e9ed583f52c02b4e304ea814db1633ad565aed7e9"),
    ],
)
def test_a_short_key_is_stored_readably_and_a_long_one_as_its_digest(who: str, stored: str) -> None:
    assert bounded(who) == stored


@given(st.text(st.characters(exclude_categories=[]), max_size=80))
def test_a_stored_key_is_short_and_no_part_of_it_looks_like_another_part_of_the_bucket(who: str) -> None:
    assert len(bounded(who)) <= 3 * 64
    assert "/" not in bounded(who)


@given(st.text("ab/%2F5s:", max_size=70), st.text("ab/%2F5s:", max_size=70))
def test_two_keys_are_never_stored_as_one(one: str, other: str) -> None:
    assert (bounded(one) == bounded(other)) == (one == other)
