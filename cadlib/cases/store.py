"""Opens the case store, and reads and writes it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from sqlalchemy import Connection, Engine

from cadlib.cases import database, erasure, image_store, place, schema
from cadlib.cases.image_store import ImageStore
from cadlib.cases.records import StoredImage
from cadlib.cases.stored_file import StoredFile
from cadlib.cases.upgrade import upgrade
from cadlib.cases.writing import CaseWriter
from cadlib.images import LesionImage

LOCAL_READER = "local"
"""The reader of a machine without login."""


class CaseStore:
    """The cases of a machine or a clinic: a database and a place for images.

    Any number of threads and processes may use a store at once.

    ```python
    with CaseStore.open() as store:
        with store.write("local") as cases:
            patient = cases.add_patient(PatientDetails("P-0001"))
        with store.read() as connection:
            patients = queries.patients(connection)
    ```
    """

    def __init__(self, engine: Engine, images: ImageStore) -> None:
        self.engine = engine
        self.images = images

    @classmethod
    def open(cls, url: str | None = None, images: str | None = None) -> Self:
        """Open the store at a database URL and an address of images, and upgrade its tables.

        The defaults are CADLIB_DATABASE and CADLIB_CASE_IMAGES, or a SQLite file and a folder in
        the user's data folder. Raise CaseStoreFailed where that is not possible.
        """
        engine = database.connect(url or place.default_url())
        store = cls(engine, ImageStore(images or place.default_images()))
        try:
            upgrade(engine)
            # What an erasure could not finish before its process ended.
            erasure.remove_files(engine, store.images)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close the connections to the database."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @contextmanager
    def write(self, actor: str = LOCAL_READER) -> Iterator[CaseWriter]:
        """Yield a writer; all that it wrote is saved when the block ends, or nothing is.

        Raise CaseStoreFailed when the database or the place of images fails. The block must be
        short, because writers take turns.
        """
        with database.writing(self.engine) as connection:
            _add_reader(connection, self.images, actor)
            yield CaseWriter(connection, self.images, actor)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection for `queries`, on which everything is as at one moment."""
        with database.reading(self.engine) as connection:
            yield connection

    def store_file(self, image: LesionImage) -> StoredFile:
        """Write the file of an image, before `CaseWriter.add_image` adds it.

        It is not in `add_image`, because encoding takes longer than a transaction may.
        """
        data = image_store.encode(image.pixels)
        sha256 = self.images.write(data)
        return StoredFile(image, data, sha256)

    def lesion_image(self, image: StoredImage) -> LesionImage:
        """Return a stored image as it was read, without the facts of a DICOM header.

        A model gives it the same answer. Raise CaseStoreFailed if its file is missing or changed.
        """
        # The file was checked when it was read for the first time, so it is not decoded apart.
        pixels = image_store.decode(self.images.read(image.sha256))
        stored_px = (image.width_px, image.height_px)
        reduced = image.file_px if image.file_px != stored_px else None
        return LesionImage(
            pixels=pixels,
            sha256=image.source_sha256,
            format=image.source_format,
            notes=image.notes,
            reduced=reduced,
            red_blue_swapped=image.red_blue_swapped,
        )

    def erase_patient(self, patient_id: str, actor: str = LOCAL_READER) -> erasure.Erased:
        """Delete a patient, with all rows and images, and record that it was done.

        Raise CaseMissing if there is no such patient.
        """
        with database.writing(self.engine) as connection:
            erased = erasure.erase_patient(connection, patient_id, actor)
        # After the rows: a process that ends in between leaves files, not rows without files.
        erasure.remove_files(self.engine, self.images)
        erasure.compact(self.engine)
        return erased


def _add_reader(connection: Connection, images: ImageStore, actor: str) -> None:
    """Add the reader of a transaction if it is the first one."""
    table = schema.readers
    query = table.select().where(table.c.id == actor)
    if connection.execute(query).first() is None:
        CaseWriter(connection, images, actor).add_reader()
