"""Unimeter over TCP: its binary protocol, served from the same log and the same figures."""
