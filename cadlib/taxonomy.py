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
MALIGNANT = tuple(d.malignant for d in DIAGNOSES)


def diagnosis(code: str) -> Diagnosis:
    """Return the diagnosis of an ISIC 2019 code; raise ValueError for any other text."""
    if code not in CODES:
        raise ValueError(f"Expected `code` to be one of {', '.join(CODES)} but got {code!r}.")
    return DIAGNOSES[CODES.index(code)]
