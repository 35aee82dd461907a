"""Defines the eight diagnoses of ISIC 2019: code, name, group and colour.

They are defined nowhere else. The order is that of the columns of
ISIC_2019_Training_GroundTruth.csv; every array of eight in this project follows it. Actinic
keratosis counts as malignant, as in Tschandl et al., Lancet Oncology 20 (2019) 938, because it is a
precursor of squamous cell carcinoma that is referred and treated.

Colours: warm hues are malignant, cool hues benign. The two group colours are vermilion and blue of
Okabe and Ito's palette (2008), which are distinct in every common colour-vision deficiency.
"""

from dataclasses import dataclass

MALIGNANT_COLOUR = "#D55E00"
BENIGN_COLOUR = "#0072B2"
MALIGNANT_MARK = "▲"
BENIGN_MARK = "●"
"""The marks show the two groups without colour."""
UNKNOWN = "UNK"
"""ISIC 2019's ninth column: outside the eight diagnoses. The network has no such output."""


@dataclass(frozen=True)
class Diagnosis:
    """One of the eight classes; `colour` is #RRGGBB, for charts that show all classes."""

    code: str
    name: str
    malignant: bool
    colour: str

    @property
    def group(self) -> str:
        """Return "malignant" or "benign"."""
        return "malignant" if self.malignant else "benign"

    @property
    def mark(self) -> str:
        """Return the mark of the group."""
        return MALIGNANT_MARK if self.malignant else BENIGN_MARK

    @property
    def group_colour(self) -> str:
        """Return the colour of the group, #RRGGBB."""
        return MALIGNANT_COLOUR if self.malignant else BENIGN_COLOUR


DIAGNOSES = (
    Diagnosis("MEL", "Melanoma", True, "#D55E00"),
    Diagnosis("NV", "Melanocytic nevus", False, "#0072B2"),
    Diagnosis("BCC", "Basal cell carcinoma", True, "#E69F00"),
    Diagnosis("AK", "Actinic keratosis", True, "#A6761D"),
    Diagnosis("BKL", "Benign keratosis", False, "#56B4E9"),
    Diagnosis("DF", "Dermatofibroma", False, "#009E73"),
    Diagnosis("VASC", "Vascular lesion", False, "#7570B3"),
    Diagnosis("SCC", "Squamous cell carcinoma", True, "#CC79A7"),
)
CODES = tuple(d.code for d in DIAGNOSES)
ACTINIC_KERATOSIS_NOTE = (
    "Actinic keratosis counts as malignant here because it can progress to squamous cell carcinoma."
)
MALIGNANT_NOTE = f"{MALIGNANT_MARK} malignant, {BENIGN_MARK} benign. {ACTINIC_KERATOSIS_NOTE}"
MALIGNANT = tuple(d.malignant for d in DIAGNOSES)


@dataclass(frozen=True)
class Classes:
    """The classes that a challenge scores, as sums of the diagnoses of ISIC 2019.

    Their order is that of the challenge's columns. `members` has for each class the codes that are
    summed in it. The first of them represents the class in arrays of eight.
    """

    challenge: str
    diagnoses: tuple[Diagnosis, ...]
    members: tuple[tuple[str, ...], ...]

    @property
    def codes(self) -> tuple[str, ...]:
        """Return the codes of the classes."""
        return tuple(d.code for d in self.diagnoses)


# It has the colour of AK, which represents it in arrays of eight.
_AKIEC = Diagnosis("AKIEC", "Actinic keratosis, SCC", True, "#A6761D")
ISIC_2019 = Classes("ISIC 2019", DIAGNOSES, tuple((code,) for code in CODES))
# ISIC 2018 has no column for SCC: AKIEC includes it.
_WITHOUT_SCC = tuple(d for d in DIAGNOSES if d.code != "SCC")
ISIC_2018 = Classes(
    "ISIC 2018 Task 3",
    tuple(_AKIEC if d.code == "AK" else d for d in _WITHOUT_SCC),
    tuple(("AK", "SCC") if d.code == "AK" else (d.code,) for d in _WITHOUT_SCC),
)
"""Its seven classes.

AKIEC, actinic keratosis and intraepithelial carcinoma, includes what 2019 calls SCC.
"""
# The number of classes is the value of the option `--classes`.
CLASSES = {len(classes.codes): classes for classes in (ISIC_2019, ISIC_2018)}


def diagnosis(code: str) -> Diagnosis:
    """Return the diagnosis of an ISIC 2019 code; raise ValueError for any other text."""
    if code not in CODES:
        codes = ", ".join(CODES)
        raise ValueError(f"Expected `code` to be one of {codes}, but got {code!r}.")
    place = CODES.index(code)
    return DIAGNOSES[place]
