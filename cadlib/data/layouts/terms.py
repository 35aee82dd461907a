"""The words that data sets have for diagnoses, sexes and sites, and what ISIC 2019 calls the same.

Only what is certain stands here; any other word is reported and taken as missing. The diagnoses of HAM10000 are those
of its description (Tschandl, Rosendahl, Kittler, Scientific Data 5, 180161, 2018), those of ISIC 2020 the names in its
ground truth (Rotemberg et al., Scientific Data 8, 34, 2021), put into classes as HAM10000 and ISIC 2019 put them. Those
of the ISIC Archive are of its third level, where its names are as narrow as a class;
`cadlib.data.download.sample` has them.
"""

import re

import pandas as pd

from cadlib.images.patient import COARSE_SITES, SEXES, SITES
from cadlib.taxonomy import CODES, DIAGNOSES, ISIC_2018, UNKNOWN

SEVEN_CLASS_CODES = {
    seven.code: members[0]
    for seven, members in zip(ISIC_2018.diagnoses, ISIC_2018.members, strict=True)
}
"""A code of ISIC 2018 -> that of ISIC 2019 which stands for it in `cadlib.taxonomy`.

AKIEC is AK, though it holds carcinoma in situ as well: of the 327 in HAM10000, ISIC 2019 calls 130 AK and 197 SCC.
"""
DIAGNOSES_BY_WORD = {
    **{code.lower(): code for code in (*CODES, UNKNOWN)},
    **{seven.lower(): code for seven, code in SEVEN_CLASS_CODES.items()},
    **{d.name.lower(): d.code for d in DIAGNOSES},
    "melanoma in situ": "MEL",
    "melanoma invasive": "MEL",
    "melanoma, nos": "MEL",
    "nevus": "NV",
    "melanocytic nevi": "NV",
    "actinic keratoses": "AK",
    "solar keratosis": "AK",
    "solar or actinic keratosis": "AK",
    "seborrheic keratosis": "BKL",
    "pigmented benign keratosis": "BKL",
    "solar lentigo": "BKL",
    "lentigo nos": "BKL",
    "lichenoid keratosis": "BKL",
    "lichen planus like keratosis": "BKL",
    "angioma": "VASC",
    "hemangioma": "VASC",
    "angiokeratoma": "VASC",
    "pyogenic granuloma": "VASC",
    "squamous cell carcinoma, nos": "SCC",
    "squamous cell carcinoma, invasive": "SCC",
}
SEXES_BY_WORD = {**{sex: sex for sex in SEXES}, **{sex[0]: sex for sex in SEXES}}
SITES_BY_WORD = {
    **{site: site for site in (*SITES, *COARSE_SITES)},
    "trunk": "torso",
    "anterior trunk": "anterior torso",
    "lateral trunk": "lateral torso",
    "posterior trunk": "posterior torso",
    "head and neck": "head/neck",
    "head & neck": "head/neck",
    "abdomen": "anterior torso",
    "chest": "anterior torso",
    "back": "posterior torso",
    "face": "head/neck",
    "scalp": "head/neck",
    "ear": "head/neck",
    "neck": "head/neck",
    "hand": "upper extremity",
    "foot": "lower extremity",
    "acral": "palms/soles",
    "genital": "oral/genital",
}
"""As ISIC 2019 put the sites of HAM10000: a test adds its counts up to those of ISIC_2019_Training_Metadata.csv.

`trunk` is missing there, and a coarser site here; so is `genital`, which has one that is certain.
"""
ARCHIVE_SITES = {
    "upper extremity:hand:palm of hand": "palms/soles",
    "lower extremity:foot:sole of foot": "palms/soles",
    "trunk:anterior trunk": "anterior torso",
    "trunk:lateral trunk": "lateral torso",
    "trunk:posterior trunk": "posterior torso",
    "trunk": "torso",
    "anogenital region:genital region": "oral/genital",
    "head and neck": "head/neck",
    "upper extremity": "upper extremity",
    "lower extremity": "lower extremity",
}
"""How a site of the ISIC Archive begins, the narrower first -> anatom_site_general."""
MALIGNANCY_BY_WORD = {"benign": False, "malignant": True}
INDETERMINATE = ("indeterminate", "indeterminate/benign", "indeterminate/malignant")
TRUTH_BY_WORD = {
    **dict.fromkeys(("true", "yes", "y", "t"), 1),
    **dict.fromkeys(("false", "no", "n", "f"), 0),
    # A spreadsheet writes True and False in the language of its user.
    **dict.fromkeys(("wahr", "ja", "vrai", "oui", "vero", "verdadero", "sí", "si"), 1),
    **dict.fromkeys(("falsch", "nein", "faux", "non", "falso"), 0),
}
NOT_KNOWN = ("unknown", "not known", "not available")


def archive_site(path: str) -> str | None:
    """Return the site of a path such as "Trunk:Anterior trunk"; None where it is in no one site."""
    path = path.lower()
    for start, site in ARCHIVE_SITES.items():
        if path == start or path.startswith(f"{start}:"):
            return site
    return None


def words(column: "pd.Series[str]") -> "pd.Series[str]":
    """Return a column in lower case with single blanks, missing where it says that nothing is known."""
    plain = column.str.lower().str.replace(re.compile(r"[\s_-]+"), " ", regex=True).str.strip()
    return plain.mask(plain.isin(NOT_KNOWN)).astype("str")
