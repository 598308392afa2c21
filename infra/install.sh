#!/bin/sh
# Makes ./.venv with the exact versions of requirements.lock and this project, editable.
#
# With uv where it is installed, else with any Python >= 3.11 and its pip. Touches .venv/installed
# at the end; until then a half-made environment is made again by the next call.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "install: $*" >&2; }

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for name in ${PYTHON_FOR_VENV:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null 2>&1 && is_new_enough "$name"; then
            command -v "$name"
            return
        fi
    done
    return 1
}

make_venv_with_pip() {
    python=$(find_python) || {
        say "no Python 3.11 or later was found on the PATH; install one, or set PYTHON_FOR_VENV to it"
        exit 1
    }
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv --clear .venv
    elif "$python" -m pip --version >/dev/null 2>&1; then
        # Debian without python3-venv, with python3-pip: a pip outside can fill a bare environment.
        "$python" -m venv --clear --without-pip .venv
        "$python" -m pip --python .venv/bin/python install --quiet pip
    else
        say "$python can make no environment: on Debian and Ubuntu run 'apt install python3-venv'"
        exit 1
    fi
}

packages=$(grep -c '^[A-Za-z0-9].*==' requirements.lock)
second="2 of 3: up to $packages packages of requirements.lock, those of tests and hooks among them (minutes and more than a gigabyte the first time, nothing is said meanwhile)"
third="3 of 3: meterstream itself, editable"

if command -v uv >/dev/null 2>&1; then
    say "1 of 3: an environment in .venv, with uv"
    is_new_enough .venv/bin/python || uv venv --quiet --clear --python '>=3.11' .venv
    say "$second"
    uv pip sync --quiet --python .venv/bin/python requirements.lock
    say "$third"
    uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
else
    say "1 of 3: an environment in .venv, with pip (uv, where it is installed, is faster)"
    { is_new_enough .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; } ||
        make_venv_with_pip
    say "$second"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --require-hashes --requirement requirements.lock
    say "$third"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --no-deps --no-build-isolation --editable .
fi
touch .venv/installed
say "ready: .venv/bin/meterstream"
