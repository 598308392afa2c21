#!/bin/sh
# Run once by the database's image, at the first start: a role for Grafana that can only read what
# the owner makes, for a minute at most.
set -eu
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set password="$(cat /run/secrets/reader_password)" <<'SQL'
CREATE ROLE meterstream_reader LOGIN PASSWORD :'password' CONNECTION LIMIT 8;
ALTER ROLE meterstream_reader SET default_transaction_read_only = on;
ALTER ROLE meterstream_reader SET statement_timeout = '60s';
ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO meterstream_reader;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO meterstream_reader;
SQL
