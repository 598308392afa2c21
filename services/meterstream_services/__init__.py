"""Processes people and programs talk to: usage API, accounts, command line."""
