"""The documented calls of five other metering clients, delivered through this SDK."""
