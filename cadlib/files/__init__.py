"""Reads and writes the project's own files: typed JSON, cached arrays, tables."""
