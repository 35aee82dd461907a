"""Reads and writes files of the project's own: typed JSON, cached arrays, tables."""
