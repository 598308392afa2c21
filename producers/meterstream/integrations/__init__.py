"""Hooks into what a service is built of.

Each module needs the extra of its own name; none is imported by default.
"""
