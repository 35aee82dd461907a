"""Reads the texts and the positions of a PDF file by PDFium, the renderer of Chromium."""

from dataclasses import dataclass

import pypdfium2

# A point is 1/72 inch.
_TOUCHING = 0.5


@dataclass(frozen=True)
class Run:
    """A run of characters on one line: its box in points, the origin at the left lower corner."""

    text: str
    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: "Run") -> bool:
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return width > _TOUCHING and height > _TOUCHING


@dataclass(frozen=True)
class ReadPage:
    """A page: its size in points, its text, the runs of its text, the boxes of its images."""

    width: float
    height: float
    text: str
    runs: tuple[Run, ...]
    images: tuple[Run, ...]


def read_pages(data: bytes) -> list[ReadPage]:
    """Return the pages of a PDF file."""
    document = pypdfium2.PdfDocument(data)
    pages = [_read_page(page) for page in document]
    document.close()
    return pages


def text_of(data: bytes) -> str:
    """Return the text of a PDF file with single spaces, so that the breaks of lines do not matter."""
    return " ".join(" ".join(page.text.split()) for page in read_pages(data))


def metadata_of(data: bytes) -> dict[str, str]:
    """Return the metadata of a PDF file, by their names in the file."""
    document = pypdfium2.PdfDocument(data)
    metadata = document.get_metadata_dict()
    document.close()
    return metadata


def outline_of(data: bytes) -> list[str]:
    """Return the titles of the sections in the outline of a PDF file."""
    document = pypdfium2.PdfDocument(data)
    titles = [bookmark.get_title() for bookmark in document.get_toc()]
    document.close()
    return titles


def _read_page(page: pypdfium2.PdfPage) -> ReadPage:
    characters = page.get_textpage()
    runs = []
    for index in range(characters.count_rects()):
        box = characters.get_rect(index)
        runs.append(Run(characters.get_text_bounded(*box), *box))
    items = page.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE])
    images = [Run("image", *item.get_bounds()) for item in items]
    width, height = page.get_size()
    return ReadPage(width, height, characters.get_text_range(), tuple(runs), tuple(images))
