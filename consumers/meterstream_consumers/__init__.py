"""Processes fed by Kafka: the worker and the outbox relay."""
