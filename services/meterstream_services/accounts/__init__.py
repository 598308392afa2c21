"""The customer-lookup service: accounts, and which tenant belonged to which account when.

Usage is kept by tenant; accounts join when a question is asked. So a tenant may be mapped late or
moved without any figure being rewritten, and an outage here never stops counting.
"""
