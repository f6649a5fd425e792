"""For the tests of an app that uses the kit: each helper in its own module, `Contract` here as well."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi_kit.testing.contract import Contract, ContractError

__all__ = ["Contract", "ContractError"]


def __getattr__(name: str) -> Any:
    # When it is asked for: it needs an extra that the other helpers do not.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fastapi_kit.testing import contract  # noqa: PLC0415

    return getattr(contract, name)
