#!/bin/sh
# venv.sh PYTHON VENV: make a virtual environment, or say in one line what is missing.
python=$1 venv=$2

fail() {
    echo "fastapi_kit: $1" >&2
    exit 1
}

command -v "$python" >/dev/null ||
    fail "$python was not found: install Python 3.11 or newer, or name yours: make run PYTHON=/path/to/python3"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') ||
    fail "$python does not run: name a Python 3.11 or newer: make run PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$python is Python $version, too old: install 3.11 or newer, or name one: make run PYTHON=python3.11"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python has no venv module: install it (Debian, Ubuntu: apt-get install python$version-venv)"
"$python" -m venv --clear "$venv" ||
    fail "no virtual environment could be made in $venv: see the lines above"
