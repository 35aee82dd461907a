"""Stores patients, lesions, images, assessments and readings.

`CaseStore` in `store.py` is the door. `docs/how-to/cases.md` explains how to set it up.
"""
