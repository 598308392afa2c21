#!/bin/sh
# Run once by the database's image, at the first start: who may log in besides the owner. What the
# roles behind them may do is granted by `meterstream migrate --roles`.
set -eu
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set worker="$(cat /run/secrets/worker_password)" \
    --set reader="$(cat /run/secrets/reader_password)" <<'SQL'
CREATE ROLE meterstream_worker NOLOGIN;
CREATE ROLE meterstream_reader NOLOGIN;
CREATE ROLE worker LOGIN PASSWORD :'worker' IN ROLE meterstream_worker;
CREATE ROLE reader LOGIN PASSWORD :'reader' IN ROLE meterstream_reader CONNECTION LIMIT 40;
ALTER ROLE reader SET default_transaction_read_only = on;
SQL
