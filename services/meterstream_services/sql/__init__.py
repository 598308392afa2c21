"""What tenants and clients define by calls: one small SQL layer for SQLite and PostgreSQL."""
