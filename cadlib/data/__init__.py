"""Reads images and tables as one checked data set."""
