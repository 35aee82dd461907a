"""Reads DICOM files: the image, its frames and the patient data of the header."""
