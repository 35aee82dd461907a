"""Maps the words of data sets to the terms of ISIC 2019.

The words are diagnoses, sexes and sites. Only certain ones are listed; any other word is reported
and taken as missing. The diagnoses of HAM10000 are from its description (Tschandl, Rosendahl,
Kittler, Scientific Data 5, 180161, 2018). Those of ISIC 2020 are the names in its ground truth
(Rotemberg et al., Scientific Data 8, 34, 2021), put into classes as in HAM10000 and ISIC 2019.
Those of the ISIC Archive are from its third level, where its names are as narrow as a class;
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
"""Code of ISIC 2018 -> code of ISIC 2019, as in `cadlib.taxonomy`.

AKIEC is AK, though it contains carcinoma in situ as well: of the 327 in HAM10000, ISIC 2019 calls
130 AK and 197 SCC.
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
"""Site of a data set -> anatom_site_general, as ISIC 2019 maps the sites of HAM10000.

A test compares the sums with the counts of ISIC_2019_Training_Metadata.csv. ISIC 2019 has no site
for `trunk` and `genital`: `trunk` is a coarser site here, and the site of `genital` is certain.
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
"""Beginning of a site of the ISIC Archive, the narrower first -> anatom_site_general."""
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
    """Return the site of a path such as "Trunk:Anterior trunk"; None without a single site."""
    path = path.lower()
    for start, site in ARCHIVE_SITES.items():
        # With the colon, so that no site matches by the beginning of a longer word.
        is_below = path.startswith(f"{start}:")
        if is_below or path == start:
            return site
    return None


def words(column: "pd.Series[str]") -> "pd.Series[str]":
    """Return a column in lower case with single blanks; a word such as "unknown" is missing."""
    lower = column.str.lower()
    single_blanks = lower.str.replace(re.compile(r"[\s_-]+"), " ", regex=True)
    plain = single_blanks.str.strip()
    is_unknown = plain.isin(NOT_KNOWN)
    return plain.mask(is_unknown).astype("str")
