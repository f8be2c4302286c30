"""Versions, aliases, lineage, rollback: what was trained, what serves, and who decided so.

Nothing is imported here on purpose: serving needs only some of the modules, and a cold start pays for no more.
"""
