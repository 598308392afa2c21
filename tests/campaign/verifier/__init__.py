"""The judge of a campaign: a program of its own that shares no code with what it judges.

It imports nothing of this project. It knows the wire format, the meters' rules and the tables from
their descriptions, and works with files and addresses only.
"""
