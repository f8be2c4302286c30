"""Plugins for LocalStack in host mode, loaded through its own entry points."""
