"""The HTTP client is needed by those who take tokens of outside issuers, and by nobody else."""

import subprocess
import sys

WITHOUT_A_CLIENT = "import sys; sys.modules['httpx2'] = None; "


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_A_CLIENT + code], capture_output=True, text=True, check=False
    ).stderr


def test_auth_without_outside_issuers_needs_no_client() -> None:
    assert run("import fastapi_kit.auth") == ""


def test_the_error_of_a_missing_client_says_how_to_install_it() -> None:
    assert "pip install 'fastapi-service-kit[oidc]'" in run("import fastapi_kit.auth.issuers")
