"""Checks the bytes of each file type before they are decoded."""
