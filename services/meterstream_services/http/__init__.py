"""The HTTP API: usage, sessions, accounts and health, for people and programs."""
