#!/bin/sh
# Puts promtool into ./.venv/bin, out of Debian's package `prometheus`, without installing it.
#
# Needs apt's lists (`apt-get update`), no rights of root. On other systems put promtool on the PATH.
set -eu
cd "$(dirname "$0")/../.."

if ! command -v apt-get >/dev/null 2>&1; then
    printf '%s\n' "promtool: there is no apt-get here; put promtool on the PATH by other means" >&2
    exit 1
fi
here=$(pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT INT TERM
cd "$scratch"
apt-get download -qq prometheus 2>apt.log || { cat apt.log >&2; exit 1; }
dpkg-deb -x ./prometheus_*.deb unpacked
install -D -m 755 unpacked/usr/bin/promtool "$here/.venv/bin/promtool"
printf '%s\n' "promtool: .venv/bin/promtool" >&2
