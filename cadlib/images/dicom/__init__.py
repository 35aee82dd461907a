"""Reads DICOM files: image, frames and patient data of the header."""
