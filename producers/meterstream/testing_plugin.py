"""The pytest plugin: fixtures of `meterstream.testing` for a host's own tests."""
