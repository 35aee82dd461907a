"""Saves cases, and prints each one once it is confirmed.

A test starts it as a process: `python save_cases.py URL IMAGES NAME NUMBER`.
"""

import sys

import numpy as np

from cadlib.cases.store import CaseStore
from cadlib.images import LesionImage
from tests.case_examples import add_case

url, address, name, n_cases = sys.argv[1:]
rng = np.random.default_rng()
with CaseStore.open(url, address) as store:
    for number in range(int(n_cases)):
        pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
        image = LesionImage(pixels, f"{name}-{number}", "PNG")
        case = add_case(store, f"{name}-{number}", image, actor=name)
        sys.stdout.write(f"{case.patient.id} {case.image.id}\n")
