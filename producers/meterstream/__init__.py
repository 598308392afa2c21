"""The SDK: record what a tenant uses, from inside a service."""
