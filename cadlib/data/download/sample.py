"""Downloads a few labelled images a class through the ISIC Archive's API.

The sample is for browsing without the 9 GB of the whole data set. The form of the API and its terms
were read from the public sources of the archive (ImageMarkup/isic, ImageMarkup/isic-cli, and
isic-metadata 4.12 for the names of diagnoses and sites), and were not tried on the live server.
The images are from its collection 65, "Challenge 2019: Training". The archive describes a diagnosis
in up to five levels. A term below is a class of ISIC 2019 where the challenge put this term into
the class (https://challenge.isic-archive.com/landing/2019/). An image with any other term, or with
the terms of two classes, has no label here.

The images are the first that the archive lists, not random ones: the sample is for viewing, not for
measuring.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from cadlib.data.download.client import Client, Watch, check_address, shown
from cadlib.data.download.disk import check_free
from cadlib.data.layouts.terms import archive_site
from cadlib.errors import DownloadFailed, ImageRejected
from cadlib.images import SUPPORTED_SUFFIXES, read_image
from cadlib.images.patient import SEXES
from cadlib.taxonomy import CODES, UNKNOWN

API = "https://api.isic-archive.com/api/v2/"
COLLECTION = 65
SET = "ISIC_2019_Training"
ATTRIBUTION_FILE = "attribution.csv"
TERMS = {
    "MEL": (("diagnosis_2", "Malignant melanocytic proliferations (Melanoma)"),),
    "NV": (("diagnosis_3", "Nevus"),),
    "BCC": (("diagnosis_3", "Basal cell carcinoma"),),
    "AK": (("diagnosis_3", "Solar or actinic keratosis"),),
    "BKL": (
        ("diagnosis_3", "Seborrheic keratosis"),
        ("diagnosis_3", "Solar lentigo"),
        ("diagnosis_3", "Lichen planus like keratosis"),
        ("diagnosis_3", "Pigmented benign keratosis"),
    ),
    "DF": (("diagnosis_3", "Dermatofibroma"),),
    "VASC": (("diagnosis_2", "Benign soft tissue proliferations - Vascular"),),
    "SCC": (
        ("diagnosis_3", "Squamous cell carcinoma, NOS"),
        ("diagnosis_3", "Squamous cell carcinoma, Invasive"),
    ),
}
"""Class -> levels and terms of the archive's diagnoses; one term is enough."""

# The most that the API returns at once.
_PAGE = 100
_MAX_PAGES = 20
_MAX_JSON_BYTES = 16 << 20
_MAX_IMAGE_BYTES = 64 << 20
_LEVELS = range(1, 6)
_NEW_API = "The archive's API may have changed: look for an update of this program."


@dataclass(frozen=True)
class ArchiveImage:
    """One image as the API describes it; a missing field is an empty text.

    `terms` go from the widest to the narrowest; `size_bytes` is the archive's statement, and may be
    out of date.
    """

    image: str
    url: str
    size_bytes: int
    terms: tuple[str, ...]
    age_years: str
    sex: str
    site: str
    lesion_id: str
    attribution: str
    licence: str

    @property
    def code(self) -> str | None:
        """Return the class of ISIC 2019, or None where the terms name none or more than one."""
        own_terms = set()
        for level, term in zip(_LEVELS, self.terms, strict=True):
            own_terms.add((f"diagnosis_{level}", term))
        codes = [code for code, terms in TERMS.items() if own_terms.intersection(terms)]
        if len(codes) != 1:
            return None
        return codes[0]


def download_sample(
    folder: Path,
    per_class: int,
    watch: Watch,
    *,
    api: str = API,
    client: Client | None = None,
) -> None:
    """Download `per_class` images of each class into `folder`, in ISIC's layout.

    attribution.csv is written beside the tables. Raise DownloadFailed, and leave the images
    received so far for the next run. `watch` gets a line for each class with fewer images in the
    archive, and for images without a label.
    """
    if _is_there(folder, per_class, watch):
        return
    client = client or Client()
    api = check_address(api)
    selected: list[ArchiveImage] = []
    for code in CODES:
        selected += _select(client, api, code, per_class, watch)
    _check_selected(selected, api)
    aside = folder / f"{SET}_Input.part"
    aside.mkdir(exist_ok=True)
    n_bytes = sum(image.size_bytes for image in selected)
    check_free(folder, n_bytes)
    _fetch_all(client, selected, aside, watch)
    _remove_others(aside, selected)
    _write_tables(folder, selected)
    # The last step: with it, and not before, there is a data set.
    aside.rename(folder / f"{SET}_Input")
    classes = {image.code for image in selected}
    watch.say(f"{len(selected):,} images of {len(classes)} classes in {folder}.")
    watch.say(
        "Each image has its own licence and author: "
        f"see {ATTRIBUTION_FILE} before you share an image."
    )


def _check_selected(selected: Sequence[ArchiveImage], api: str) -> None:
    """Raise DownloadFailed without images, and for an image that the archive lists twice."""
    if not selected:
        raise DownloadFailed(
            f"Expected labelled images at {shown(api)}, but it lists none. Try again later."
        )
    ids = {image.image for image in selected}
    if len(ids) < len(selected):
        raise DownloadFailed(
            f"Expected each image once at {shown(api)}, "
            "but it lists some of them twice. Try again later."
        )


def _fetch_all(
    client: Client,
    images: Sequence[ArchiveImage],
    folder: Path,
    watch: Watch,
) -> None:
    """Fetch the images into a folder; those received stay there after Ctrl-C."""
    try:
        for done, image in enumerate(images, 1):
            _fetch(client, image, folder / f"{image.image}.jpg")
            watch.progress("images", done, len(images))
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(
            f"Stopped. The images downloaded so far are saved in {folder}."
        ) from stop


def _remove_others(aside: Path, selected: Sequence[ArchiveImage]) -> None:
    """Delete images of an interrupted run, after which the archive lists other images."""
    names = {f"{image.image}.jpg" for image in selected}
    for path in aside.iterdir():
        if path.name not in names:
            path.unlink()


def _is_there(folder: Path, per_class: int, watch: Watch) -> bool:
    """Return whether this sample is in the folder; raise when another data set is."""
    images = folder / f"{SET}_Input"
    truth = folder / f"{SET}_GroundTruth.csv"
    has_attribution = (folder / ATTRIBUTION_FILE).exists()
    present = [path for path in (images, truth) if path.exists()]
    if not present:
        return False
    if not images.exists() and has_attribution:
        # The tables of a run that was interrupted just before its last step.
        return False
    # Without its authors it is no sample but the data set of somebody else.
    if len(present) == 2 and has_attribution:
        n_images = _count_images(images)
        counts = _class_counts(truth)
        # A rare class may have fewer images in the archive, so only the largest class counts.
        most = max(counts.values(), default=0)
        is_same_size = most == per_class
        is_complete = n_images == counts.total()
        if is_same_size and is_complete:
            watch.say(f"Nothing to download: {folder} has this sample, {n_images:,} images.")
            return True
    names = ", ".join(path.name for path in present)
    raise DownloadFailed(
        f"Expected a folder without a data set, but {folder} has another one: {names}. "
        "It was not changed: use another folder, or move the data set."
    )


def _count_images(folder: Path) -> int:
    """Return how many files in a folder have the suffix of an image."""
    return sum(path.suffix.lower() in SUPPORTED_SUFFIXES for path in folder.iterdir())


def _class_counts(truth: Path) -> Counter[str]:
    """Return how many images of each class a ground truth has."""
    counts: Counter[str] = Counter()
    with truth.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            counts.update(code for code in CODES if row.get(code) == "1.0")
    return counts


def _select(
    client: Client,
    api: str,
    code: str,
    count: int,
    watch: Watch,
) -> list[ArchiveImage]:
    """Return the first `count` images of a class in the archive's list with its label."""
    selected: list[ArchiveImage] = []
    left_out: list[str] = []
    for image in _listed(client, api, code, count):
        if image.code == code:
            selected.append(image)
        else:
            # The archive also lists an image that has the terms of two classes.
            terms = _joined_terms(image) or "no diagnosis"
            left_out.append(f"{image.image} ({terms})")
        if len(selected) == count:
            break
    if left_out:
        watch.say(
            f"{code}: {len(left_out):,} images left out, "
            f"whose label is missing or unknown: {_first(left_out)}"
        )
    if len(selected) < count:
        watch.say(f"{code}: {count:,} images requested, but the archive lists {len(selected):,}.")
    return selected


def _joined_terms(image: ArchiveImage) -> str:
    terms = [term for term in image.terms if term]
    return " > ".join(terms)


def _first(examples: Sequence[str]) -> str:
    shown_examples = "; ".join(examples[:5])
    if len(examples) > 5:
        shown_examples += "; …"
    return shown_examples


def _listed(
    client: Client,
    api: str,
    code: str,
    count: int,
) -> Iterator[ArchiveImage]:
    """Yield the images of a class in the order of the archive's list."""
    terms = [f'{level}:"{term}"' for level, term in TERMS[code]]
    parameters = {
        "query": " OR ".join(terms),
        "collections": str(COLLECTION),
        "limit": str(min(count, _PAGE)),
    }
    url = f"{api}images/search/?{urlencode(parameters)}"
    # The limit ends a list whose pages form a circle.
    for _ in range(_MAX_PAGES + count // _PAGE):
        results, following = _page(client, url)
        for result in results:
            yield _image(result, url)
        if not following:
            return
        url = following


def _page(client: Client, url: str) -> tuple[list[object], str | None]:
    """Return the results of one page and the address of the next."""
    data = client.read(url, _MAX_JSON_BYTES) or b""
    try:
        page = json.loads(data)
    except ValueError as error:
        raise DownloadFailed(
            f"Expected JSON at {shown(url)}, but got {data[:60]!r}. {_NEW_API}"
        ) from error
    results = None
    following = None
    if isinstance(page, dict):
        results = page.get("results")
        following = page.get("next")
    if not isinstance(results, list) or not isinstance(following, str | None):
        raise DownloadFailed(
            f"Expected a list `results` and an address `next` at {shown(url)}, "
            f"but got other JSON. {_NEW_API}"
        )
    return results, following


def _image(result: object, url: str) -> ArchiveImage:
    """Check one result of the API and return it as an image."""
    name = _text(result, "isic_id")
    address = _text(result, "files", "full", "url")
    is_id = re.fullmatch(r"ISIC_\d{7}", name)
    if not is_id or not address.startswith(("https://", "http://")):
        raise DownloadFailed(
            "Expected an id like ISIC_0000000 with an address "
            f"at {shown(url)}, but got {name[:40]!r}. {_NEW_API}"
        )
    size = _digits(_text(result, "files", "full", "size"))
    terms = [_clinical(result, f"diagnosis_{level}") for level in _LEVELS]
    sex = _clinical(result, "sex")
    return ArchiveImage(
        image=name,
        url=address,
        size_bytes=int(size or 0),
        terms=tuple(terms),
        age_years=_digits(_clinical(result, "age_approx")),
        sex=sex if sex in SEXES else "",
        site=_site(result),
        lesion_id=_clinical(result, "lesion_id"),
        attribution=_text(result, "attribution"),
        licence=_text(result, "copyright_license"),
    )


def _site(result: object) -> str:
    """Return the site of ISIC 2019 of one result of the API, else an empty text."""
    site = _clinical(result, "anatom_site_general")
    if site:
        return site
    levels = []
    for level in _LEVELS:
        term = _clinical(result, f"anatom_site_{level}")
        if term:
            levels.append(term)
    path = ":".join(levels)
    return archive_site(path) or ""


def _clinical(result: object, key: str) -> str:
    """Return a clinical fact of one result of the API, an empty text where it is missing."""
    return _text(result, "metadata", "clinical", key)


def _text(value: object, *keys: str) -> str:
    """Return the value below nested keys as a text; "" for a missing value, a list or an object."""
    for key in keys:
        if not isinstance(value, dict):
            return ""
        value = value.get(key)
    if isinstance(value, str | int | float):
        return str(value)
    return ""


def _digits(text: str) -> str:
    return text if re.fullmatch("[0-9]{1,12}", text) else ""


def _fetch(client: Client, image: ArchiveImage, path: Path) -> None:
    """Fetch and write one image, unless the file exists; only a readable image gets its name."""
    if path.exists():
        return
    data = client.read(image.url, _MAX_IMAGE_BYTES) or b""
    try:
        read_image(data)
    except ImageRejected as error:
        raise DownloadFailed(
            f"Expected the image {image.image}, but it cannot be read: {error} "
            "Run the command again."
        ) from error
    # An image that exists is not fetched again, so it must be complete.
    half = path.with_suffix(".half")
    half.write_bytes(data)
    half.replace(path)


def _write_tables(folder: Path, images: Sequence[ArchiveImage]) -> None:
    attributions = []
    metadata = []
    labels = []
    for image in images:
        terms = _joined_terms(image)
        attributions.append((image.image, image.attribution, image.licence, terms))
        metadata.append(
            (image.image, image.age_years, image.site, image.lesion_id, image.sex),
        )
        flags = ["1.0" if code == image.code else "0.0" for code in CODES]
        labels.append((image.image, *flags, "0.0"))
    _write(
        folder / ATTRIBUTION_FILE,
        ("image", "attribution", "copyright_license", "diagnosis"),
        attributions,
    )
    _write(
        folder / f"{SET}_Metadata.csv",
        ("image", "age_approx", "anatom_site_general", "lesion_id", "sex"),
        metadata,
    )
    _write(
        folder / f"{SET}_GroundTruth.csv",
        ("image", *CODES, UNKNOWN),
        labels,
    )


def _write(
    path: Path,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
