"""Reads a folder of images and tables as one checked data set, and splits it."""
