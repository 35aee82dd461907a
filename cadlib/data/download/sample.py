"""A few images a class with their labels, through the public API of the ISIC Archive, for browsing without the 9 GB.

The form of the API and its terms were read from the public sources of the archive (ImageMarkup/isic,
ImageMarkup/isic-cli, and isic-metadata 4.12 for the names of diagnoses and sites), not tried against the live server.
Asked for are images of its collection 65, "Challenge 2019: Training". The archive describes a diagnosis in up to five
levels; a term below is a class of ISIC 2019 where it is one of those that the challenge put together in it
(https://challenge.isic-archive.com/landing/2019/). Any other term, or two at once, is no label here.

An image is the first that the archive lists, not a random one: the sample is to look at, not to measure with.
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
"""Class -> level and term of the archive's diagnoses; one of them is enough."""

_PAGE = 100  # the most the API gives at once
_MAX_PAGES = 20
_MAX_JSON_BYTES = 16 << 20
_MAX_IMAGE_BYTES = 64 << 20
_LEVELS = range(1, 6)


@dataclass(frozen=True)
class ArchiveImage:
    """One image as the API describes it; what it does not say is an empty text.

    `terms` and `site` go from the widest to the narrowest; `size_bytes` is the archive's word, and may be out of date.
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
        levels = {
            f"diagnosis_{level}": term for level, term in zip(_LEVELS, self.terms, strict=True)
        }
        codes = [
            code
            for code, known in TERMS.items()
            if any(levels[level] == term for level, term in known)
        ]
        return codes[0] if len(codes) == 1 else None


def download_sample(
    folder: Path, per_class: int, watch: Watch, *, api: str = API, client: Client | None = None
) -> None:
    """Make `folder` hold `per_class` images of each class in ISIC's layout, with attribution.csv beside the tables.

    Raises DownloadFailed, and leaves the images that came for the next start. Classes of which the archive lists
    fewer, and images without a label, are told to `watch`.
    """
    if _is_there(folder, per_class, watch):
        return
    client = client or Client()
    api = check_address(api)
    chosen = [image for code in CODES for image in _choose(client, api, code, per_class, watch)]
    if not chosen:
        raise DownloadFailed(
            f"Expected labelled images at {shown(api)} but it lists none. Try again later."
        )
    if len({image.image for image in chosen}) < len(chosen):
        raise DownloadFailed(
            f"Expected each image once at {shown(api)} but some came twice. Try again later."
        )
    aside = folder / f"{SET}_Input.part"
    aside.mkdir(exist_ok=True)
    check_free(folder, sum(image.size_bytes for image in chosen))
    try:
        for done, image in enumerate(chosen, 1):
            _fetch(client, image, aside / f"{image.image}.jpg")
            watch.progress("images", done, len(chosen))
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"Stopped; the images that came are kept in {aside}.") from stop
    wanted = {f"{image.image}.jpg" for image in chosen}
    for path in aside.iterdir():
        if (
            path.name not in wanted
        ):  # of a start that was stopped, before the archive listed other images
            path.unlink()
    _write_tables(folder, chosen)
    aside.rename(
        folder / f"{SET}_Input"
    )  # the last step: with it, and not before, there is a data set
    watch.say(
        f"{len(chosen):,} images of {len({image.code for image in chosen})} classes in {folder}."
    )
    watch.say(
        f"Each image has its own licence and author: see {ATTRIBUTION_FILE} before passing one on."
    )


def _is_there(folder: Path, per_class: int, watch: Watch) -> bool:
    """Tell whether this sample is there; raise when another data set is."""
    images, truth = folder / f"{SET}_Input", folder / f"{SET}_GroundTruth.csv"
    taken = [path.name for path in (images, truth) if path.exists()]
    if not images.exists() and (folder / ATTRIBUTION_FILE).exists():
        return False  # the tables of a sample that was stopped just before its last step
    if not taken:
        return False
    if images.exists() and truth.exists() and (folder / ATTRIBUTION_FILE).exists():
        with truth.open(encoding="utf-8", newline="") as file:
            counts = Counter(
                code for row in csv.DictReader(file) for code in CODES if row.get(code) == "1.0"
            )
        pictures = sum(path.suffix.lower() in SUPPORTED_SUFFIXES for path in images.iterdir())
        if counts and max(counts.values()) == per_class and pictures == counts.total():
            watch.say(f"Nothing to fetch: {folder} holds this sample, {pictures:,} images.")
            return True
    raise DownloadFailed(
        f"Expected a folder without a data set but {folder} holds another: {', '.join(taken)}. "
        "It is left alone: give another folder, or move it away."
    )


def _choose(client: Client, api: str, code: str, count: int, watch: Watch) -> list[ArchiveImage]:
    """Return the first `count` images that the archive lists for a class and that are labelled so."""
    chosen: list[ArchiveImage] = []
    left_out: list[str] = []
    for image in _listed(client, api, code, count):
        if image.code == code:
            chosen.append(image)
        else:
            left_out.append(
                f"{image.image} ({' > '.join(filter(None, image.terms)) or 'no diagnosis'})"
            )
        if len(chosen) == count:
            break
    if left_out:
        watch.say(
            f"{code}: {len(left_out):,} images left out, whose label is missing or unknown: {_some(left_out)}"
        )
    if len(chosen) < count:
        watch.say(f"{code}: {count:,} images wanted, but the archive lists {len(chosen):,}.")
    return chosen


def _some(examples: Sequence[str]) -> str:
    return "; ".join(examples[:5]) + ("; …" if len(examples) > 5 else "")


def _listed(client: Client, api: str, code: str, count: int) -> Iterator[ArchiveImage]:
    query = " OR ".join(f'{level}:"{term}"' for level, term in TERMS[code])
    asked = {"query": query, "collections": str(COLLECTION), "limit": str(min(count, _PAGE))}
    url = f"{api}images/search/?{urlencode(asked)}"
    for _ in range(_MAX_PAGES + count // _PAGE):  # a list that leads in a circle ends, too
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
        raise DownloadFailed(f"Expected JSON at {shown(url)} but came: {data[:60]!r}.") from error
    results, following = (
        (page.get("results"), page.get("next")) if isinstance(page, dict) else (None, None)
    )
    if not isinstance(results, list) or not isinstance(following, str | None):
        raise DownloadFailed(
            f"Expected a list `results` and an address `next` at {shown(url)} but other JSON came."
        )
    return results, following


def _image(result: object, url: str) -> ArchiveImage:
    """Check one result of the API at entry."""
    name = _text(result, "isic_id")
    address = _text(result, "files", "full", "url")
    if not re.fullmatch(r"ISIC_\d{7}", name) or not address.startswith(("https://", "http://")):
        raise DownloadFailed(
            f"Expected an id like ISIC_0000000 with an address at {shown(url)} but came {name[:40]!r}. "
            "The archive's API may have changed; an update of this program may know it."
        )
    clinical = ("metadata", "clinical")
    path = ":".join(
        filter(None, (_text(result, *clinical, f"anatom_site_{level}") for level in _LEVELS))
    )
    return ArchiveImage(
        image=name,
        url=address,
        size_bytes=int(_digits(_text(result, "files", "full", "size")) or 0),
        terms=tuple(_text(result, *clinical, f"diagnosis_{level}") for level in _LEVELS),
        age_years=_digits(_text(result, *clinical, "age_approx")),
        sex=next((sex for sex in SEXES if sex == _text(result, *clinical, "sex")), ""),
        site=_text(result, *clinical, "anatom_site_general") or archive_site(path) or "",
        lesion_id=_text(result, *clinical, "lesion_id"),
        attribution=_text(result, "attribution"),
        licence=_text(result, "copyright_license"),
    )


def _text(value: object, *keys: str) -> str:
    """Return what stands below nested keys as a text; "" where nothing, or a list or object, stands."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return str(value) if isinstance(value, str | int | float) else ""


def _digits(text: str) -> str:
    return text if re.fullmatch("[0-9]{1,12}", text) else ""


def _fetch(client: Client, image: ArchiveImage, path: Path) -> None:
    """Write one image under its name when it can be decoded; what is there already was."""
    if path.exists():
        return
    data = client.read(image.url, _MAX_IMAGE_BYTES) or b""
    try:
        read_image(data)
    except ImageRejected as error:
        raise DownloadFailed(
            f"Expected the picture {image.image} but: {error} Run the command again."
        ) from error
    half = path.with_suffix(".half")
    half.write_bytes(data)
    half.replace(path)


def _write_tables(folder: Path, images: Sequence[ArchiveImage]) -> None:
    _write(
        folder / ATTRIBUTION_FILE,
        ("image", "attribution", "copyright_license", "diagnosis"),
        ((i.image, i.attribution, i.licence, " > ".join(filter(None, i.terms))) for i in images),
    )
    _write(
        folder / f"{SET}_Metadata.csv",
        ("image", "age_approx", "anatom_site_general", "lesion_id", "sex"),
        ((i.image, i.age_years, i.site, i.lesion_id, i.sex) for i in images),
    )
    _write(
        folder / f"{SET}_GroundTruth.csv",
        ("image", *CODES, UNKNOWN),
        ((i.image, *("1.0" if code == i.code else "0.0" for code in CODES), "0.0") for i in images),
    )


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
