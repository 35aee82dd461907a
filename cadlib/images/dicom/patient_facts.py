"""Reads age, sex and site from a DICOM header in ISIC terms.

The terms are those of ISIC 2019. A fact that the header does not state is missing.
"""

import re
from datetime import date

from pydicom import Dataset
from pydicom.sr.coding import Code

from cadlib.images.patient import COARSE_SITES, MAX_AGE_YEARS, PatientFacts

# In the order in which they are used as the date of the image.
_IMAGE_DATE_KEYWORDS = ("AcquisitionDate", "ContentDate", "StudyDate")
# The narrower sequence first.
_SITE_KEYWORDS = ("PrimaryAnatomicStructureSequence", "AnatomicRegionSequence")
FACT_KEYWORDS = (
    "PatientAge",
    "PatientBirthDate",
    *_IMAGE_DATE_KEYWORDS,
    "PatientSex",
    *_SITE_KEYWORDS,
    "BodyPartExamined",
)
"""The elements that are read for the facts.

The dates are used only for an age in years if the header states none, and are not passed on.
"""
SITE_CODES = {
    "anterior torso": """
        SCT 315003 30598005 54468004 66288003 72005009 75093004 76752008 181491009 244106003
        244107007 367578008 699914002 699915001 699935000 816094009 818981001
        FMA 61423 61426 61427 61439
        """,
    "head/neck": """
        SCT 661005 774007 1902009 2059009 4658004 5272005 5713008 11584001 16251004 16621002
        21672008 23747009 24483006 27887005 34926004 36141000 37108007 37671003 38407007 40069000
        41310005 43067004 43081002 45048000 45591000 51098001 57726007 61719002 66934001 68598004
        68698007 69536005 70762009 73897004 76072005 79283007 79313003 79502000 79951008 84365009
        86409001 86719006 88089004 110488009 113179006 182329002 244097004 314395006 362916000
        367577003 371398005
        DCM 130300 130305 130306 130307 130308 130310 130311 130312 130314 130315 130316 130318
        130319 130320 130321 130322
        FMA 59532 312647 312651
        """,
    "lower extremity": """
        SCT 4578000 25763004 29707007 30021000 47224004 52034004 56459004 60496002 61248009 61685007
        68367000 72696002 73958006 84507004 84607009 181553006 181563003 181564009 371304004
        699909001 699919007 770805009 770820003 770821004 770822006 770823001 770825008
        DCM 130309 130313
        FMA 37873 37876 37879 37882 37885
        """,
    "oral/genital": """
        SCT 4019005 7991003 8001006 18444004 18857001 23213005 29353003 35900000 36152006 46353006
        60944009 73058008 76723005 81992007 113277000 128252004 128253009 244117002 244118007
        245814000 245823002 245831007 279478000 279479008 279867004
        FMA 55031 55060 60030 60031 281534 281537 289677
        """,
    "palms/soles": """
        SCT 26795005 35739000 52953006 70887009 89784008
        DCM 130317
        FMA 38107 38110 38113 38116 38119 38341 38344 38347 38354 38357
        """,
    "posterior torso": """
        SCT 66643007 113182001 244111001 699893008
        DCM 130301 130302 130303 130304 130323
        FMA 49943
        """,
    "upper extremity": """
        SCT 7569003 14975008 17957002 24527008 33712006 40983000 41550009 45981001 52876008 53120007
        70559009 72939005 76505004 85562004 181536004 244169007 281642007 371311000 770809003
        770810008 770815003 770816002 770817006 770818001
        FMA 38321 38324 38327 38330 38333
        """,
}
"""anatom_site_general of ISIC 2019 -> codes of SNOMED CT, DICOM and FMA.

The codes are those of CID 4029 (Dermatology Anatomic Site), and of the regions in CID 4031 (DICOM
PS3.16), that lie in one site only. Axilla, groin, buttock and perineum do not.
"""
COARSE_SITE_CODES = {"torso": "SCT 22943007 54440003"}
"""The codes of less exact sites: trunk, and skin of upper trunk."""
BODY_PARTS = {
    "anterior torso": "ABDOMEN BREAST CHEST",
    "head/neck": "CHEEK EAR EYELID FACE HEAD HEADNECK JAW NECK NOSE SCALP",
    "lower extremity": "ANKLE CALF FOOT KNEE LEG LOWERLEG LOWERLIMB THIGH TOE",
    "oral/genital": "PENIS SCROTUM VULVA",
    "posterior torso": "BACK",
    "torso": "TRUNK",
    "upper extremity": "ELBOW FINGER FOREARM HAND THUMB UPPERARM UPPERLIMB WRIST",
}
"""Site -> defined terms of Body Part Examined (DICOM PS3.16, annex L)."""

_SEXES = {"F": "female", "M": "male"}
_UNITS_A_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12, "Y": 1}
# The names that older devices use for the scheme that DICOM calls SRT.
_SNOMED_RT = ("SNM3", "99SDM")


def _sites_by_code() -> dict[Code, str]:
    """Return the site of each code."""
    sites: dict[Code, str] = {}
    for site, schemes in (SITE_CODES | COARSE_SITE_CODES).items():
        # The name of a scheme, followed by its codes.
        for scheme, values in re.findall(r"([A-Z]+)([\s\d]+)", schemes):
            for value in values.split():
                code = Code(value, scheme, "")
                sites[code] = site
    return sites


def _sites_by_body_part() -> dict[str, str]:
    """Return the site of each defined term of Body Part Examined."""
    sites: dict[str, str] = {}
    for site, parts in BODY_PARTS.items():
        for part in parts.split():
            sites[part] = site
    return sites


_SITES = _sites_by_code()
_BODY_SITES = _sites_by_body_part()


def facts_of(header: Dataset) -> PatientFacts:
    """Return age, sex and site that a header states."""
    sex_code = _text(header, "PatientSex")
    return PatientFacts(
        age_years=_age_years(header),
        sex=_SEXES.get(sex_code),
        site=_site(header),
    )


def _age_years(header: Dataset) -> float | None:
    """Return the stated age in years, or the whole years from birth to the image."""
    age_years = _stated_age(header)
    if age_years is None:
        age_years = _age_at_image(header)
    if age_years is None or not 0 <= age_years <= MAX_AGE_YEARS:
        return None
    return age_years


def _stated_age(header: Dataset) -> float | None:
    text = _text(header, "PatientAge")
    # The value representation AS: three digits and a unit. Fewer digits are accepted.
    age = re.fullmatch(r"(\d{1,3})([DWMY])", text)
    if age is None:
        return None
    number = int(age[1])
    unit = age[2]
    return number / _UNITS_A_YEAR[unit]


def _age_at_image(header: Dataset) -> int | None:
    """Return the whole years from the date of birth to the date of the image."""
    birth = _date(header, "PatientBirthDate")
    image = _image_date(header)
    if birth is None or image is None:
        return None
    years = image.year - birth.year
    birthday = (birth.month, birth.day)
    image_day = (image.month, image.day)
    # Before the birthday the last year of life is not complete.
    is_before_birthday = image_day < birthday
    if is_before_birthday:
        return years - 1
    return years


def _image_date(header: Dataset) -> date | None:
    for keyword in _IMAGE_DATE_KEYWORDS:
        image = _date(header, keyword)
        if image is not None:
            return image
    return None


def _site(header: Dataset) -> str | None:
    """Return the site of the first code that has a site, otherwise the site of the body part.

    If that site is coarse, return the first finer site inside it, which is more exact.
    """
    sites = _coded_sites(header)
    body_part = _text(header, "BodyPartExamined")
    term = re.sub(r"[ _]", "", body_part).upper()
    body_site = _BODY_SITES.get(term)
    if body_site:
        sites.append(body_site)
    if not sites:
        return None
    first = sites[0]
    finer_sites = COARSE_SITES.get(first, ())
    for site in sites:
        if site in finer_sites:
            return site
    return first


def _coded_sites(header: Dataset) -> list[str]:
    """Return the sites of all codes that have one, in order."""
    sites = []
    for keyword in _SITE_KEYWORDS:
        for item in header.get(keyword) or ():
            site = _site_of_code(item)
            if site is not None:
                sites.append(site)
    return sites


def _site_of_code(item: Dataset) -> str | None:
    scheme = _text(item, "CodingSchemeDesignator")
    if scheme in _SNOMED_RT:
        scheme = "SRT"
    value = _text(item, "CodeValue")
    code = Code(value, scheme, "")
    # No look-up in the dict: an old SNOMED code equals its successor, but has another hash.
    for site_code, site in _SITES.items():
        if code == site_code:
            return site
    return None


def _date(header: Dataset, keyword: str) -> date | None:
    try:
        return date.fromisoformat(_text(header, keyword))
    except ValueError:
        return None


def _text(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip()
