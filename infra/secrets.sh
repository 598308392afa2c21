#!/bin/sh
# Makes the secrets of compose.yaml that are missing; what is there stays. The folder is for its owner
# alone; the files in it are readable to the containers' users, which are others.
set -eu
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets
for name in owner_password worker_password reader_password grafana_password; do
    [ -s "secrets/$name" ] || head -c 24 /dev/urandom | base64 | tr -d '\n=' | tr '+/' '-_' >"secrets/$name"
done
[ -s secrets/webhook_secret ] || printf 'whsec_%s' "$(head -c 32 /dev/urandom | base64 | tr -d '\n')" >secrets/webhook_secret
chmod 444 secrets/*
