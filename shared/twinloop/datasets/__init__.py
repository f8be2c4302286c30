"""Public data sets as raw tables, fetched where they are published and never shipped with this project."""
