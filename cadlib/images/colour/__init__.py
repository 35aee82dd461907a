"""Finds the colours of a file and converts pixels to sRGB."""
