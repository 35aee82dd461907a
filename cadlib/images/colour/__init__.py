"""Finds the colour space of a file and converts its pixels to sRGB."""
