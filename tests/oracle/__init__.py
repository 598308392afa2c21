"""A second, slow and obvious implementation of the counting, to judge the real one by.

It shares no code with the aggregator: it reads the catalogue's YAML itself, keeps every event in
memory, walks the log once in order, and adds with `fractions.Fraction`. What it finds is one long
list of contributions to windows, each with the log time that caused it; figures are made from that.
"""
