"""The eight diagnoses of ISIC 2019: code, name, malignant or benign, colour. They stand nowhere else.

The order is that of the columns of ISIC_2019_Training_GroundTruth.csv; every array of eight in this
project follows it. Actinic keratosis counts as malignant, as in Tschandl et al., Lancet Oncology 20
(2019) 938, because it is a precursor of squamous cell carcinoma that is referred and treated.

Colours: warm hues are malignant, cool hues benign. The two group colours are vermilion and blue of
Okabe and Ito's palette (2008), which stay apart in every common colour-vision deficiency.
"""

from dataclasses import dataclass

MALIGNANT_COLOUR = "#D55E00"
BENIGN_COLOUR = "#0072B2"
MALIGNANT_MARK, BENIGN_MARK = "▲", "●"
"""The signs of the two groups beside the colour, for those who do not see it."""
UNKNOWN = "UNK"
"""ISIC 2019's ninth column: a kind the eight do not cover. It is no output of the network."""


@dataclass(frozen=True)
class Diagnosis:
    """One of the eight classes; `colour` is #RRGGBB, for charts that show the classes side by side."""

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
        """Return the sign of the group."""
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
    """The classes that a challenge scores, in the order of its columns, as sums of the diagnoses of ISIC 2019.

    `members` has for each class the codes that are summed in it, the first of which stands for it in arrays of eight.
    """

    challenge: str
    diagnoses: tuple[Diagnosis, ...]
    members: tuple[tuple[str, ...], ...]

    @property
    def codes(self) -> tuple[str, ...]:
        """Return the codes of the classes."""
        return tuple(d.code for d in self.diagnoses)


_AKIEC = Diagnosis("AKIEC", "Actinic keratosis, SCC", True, "#A6761D")
ISIC_2019 = Classes("ISIC 2019", DIAGNOSES, tuple((code,) for code in CODES))
ISIC_2018 = Classes(
    "ISIC 2018 Task 3",
    tuple(_AKIEC if d.code == "AK" else d for d in DIAGNOSES if d.code != "SCC"),
    tuple(("AK", "SCC") if code == "AK" else (code,) for code in CODES if code != "SCC"),
)
"""Its seven classes: AKIEC, there actinic keratosis and intraepithelial carcinoma, takes in what 2019 calls SCC."""
CLASSES = {len(classes.codes): classes for classes in (ISIC_2019, ISIC_2018)}


def diagnosis(code: str) -> Diagnosis:
    """Return the diagnosis of an ISIC 2019 code; raise ValueError for any other text."""
    if code not in CODES:
        raise ValueError(f"Expected `code` to be one of {', '.join(CODES)} but got {code!r}.")
    return DIAGNOSES[CODES.index(code)]
