"""A missing extra is told by the command that installs it."""

import pytest

from fastapi_kit.errors import ConfigurationError, needs_extra


def test_a_missing_package_names_the_pip_command() -> None:
    with (
        pytest.raises(ConfigurationError, match=r"'no_such_package'.*pip install 'fastapi-service-kit\[auth\]'"),
        needs_extra("auth"),
    ):
        import no_such_package  # type: ignore[import-not-found]  # noqa: F401


def test_other_errors_of_an_import_are_left_alone() -> None:
    with pytest.raises(ZeroDivisionError), needs_extra("auth"):
        _ = 1 / 0
