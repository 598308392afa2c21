#!/bin/sh
# Writes requirements.lock: exact versions and hashes of every extra, for every platform at once.
# Then infra/image/*.lock: of these the part that the container image runs with, and is built with.
# Then kafka.jars: the same for the jars of the embedded broker.
#
# The resolver is PyPI's uv, from the PATH or from an environment that is thrown away afterwards.
set -eu
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT INT TERM
if command -v uv >/dev/null 2>&1; then
    uv=uv
else
    .venv/bin/python -m venv "$scratch/venv"
    "$scratch/venv/bin/pip" install --quiet --disable-pip-version-check uv
    uv="$scratch/venv/bin/uv"
fi
"$uv" pip compile --quiet --universal --generate-hashes --all-extras --no-annotate \
    --no-emit-index-url --no-emit-find-links --python-version 3.11 ${UPGRADE:+--upgrade} \
    --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml
"$uv" pip compile --quiet --universal --generate-hashes --no-annotate \
    --extra server --extra postgres --extra registry --constraint requirements.lock \
    --no-emit-index-url --no-emit-find-links --python-version 3.13 \
    --custom-compile-command "make lock" --output-file infra/image/requirements.lock pyproject.toml
"$uv" pip compile --quiet --universal --generate-hashes --no-annotate \
    --constraint requirements.lock --no-emit-index-url --no-emit-find-links --python-version 3.13 \
    --custom-compile-command "make lock" --output-file infra/image/build.lock infra/image/build.in
.venv/bin/python infra/lock_jars.py
