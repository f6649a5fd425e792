"""Whatever is done to a token, it verifies as it was issued, or is a `TokenError`."""

from itertools import islice

from fastapi_kit.auth import TokenError
from tests.auth.fuzz import COUNT, GENUINE, SERVICES, Mutant, mutants
from tests.auth.test_tokens import NOW


def verdict(mutant: Mutant) -> bool:
    """Return whether it was accepted; fail if it should not have been, and on any error but a `TokenError`."""
    try:
        claims = SERVICES[mutant.on].verify(mutant.token)
    except TokenError:
        return False
    except Exception as error:
        raise AssertionError(f"{mutant!r} made a {error!r}") from error
    assert mutant.is_signed or mutant.token in GENUINE[mutant.on], f"{mutant!r} was accepted"
    assert claims.issuer == "https://issuer.example"
    assert claims.subject
    assert claims.members["aud"] == "api" or "api" in claims.members["aud"]
    assert claims.expires_at > NOW
    assert max(claims.not_before, claims.issued_at or 0) <= NOW
    return True


def test_no_tampering_makes_anything_but_a_token_error() -> None:
    for algorithm, tokens in GENUINE.items():
        assert all(SERVICES[algorithm].verify(token).subject == "7" for token in tokens)
    accepted = 0
    for mutant in islice(mutants(seed=7519), COUNT):
        accepted += verdict(mutant) and mutant.is_signed
    # A good part of what our own key signed is right, or it would try nothing but the parser.
    assert accepted > COUNT / 50
