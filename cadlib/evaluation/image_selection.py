"""Selects the images of a data set that are measured.

They are a part of the model's own split, a saved subset, the images in both, or all.
"""

from dataclasses import dataclass
from pathlib import Path

from cadlib.data.dataset import Dataset
from cadlib.data.subsets import Subset
from cadlib.errors import DatasetInvalid
from cadlib.metrics.summary_schema import Split, SubsetFacts
from cadlib.model.audit_result import role_of
from cadlib.model.record import ModelRecord
from cadlib.model.split import part_in_training, part_of_split


@dataclass(frozen=True)
class Part:
    """The images that are in `split` ("train", "validation" or "test") and in `subset`.

    None does not restrict the images.
    """

    split: Split | None = None
    subset: Subset | None = None

    @property
    def named(self) -> str:
        """Return the name of these images for a reader, to be followed by "of" and the data set."""
        split = f"the {self.split} split"
        if not self.subset:
            return split if self.split else "all images"
        subset = f"the subset “{self.subset.name}”"
        if self.split:
            return f"{subset} within {split}"
        return subset

    @property
    def subset_facts(self) -> SubsetFacts | None:
        """Return what metrics.json records of the subset."""
        if not self.subset:
            return None
        return SubsetFacts(
            name=self.subset.name,
            sha256=self.subset.sha256,
        )

    def of(
        self,
        folder: Path,
        record: ModelRecord,
        dataset: Dataset,
    ) -> Dataset:
        """Return these images of a data set.

        `folder` and `record` are those of the model that the split belongs to. Raise
        DatasetInvalid if no image is left, and ModelInvalid if its split.csv is not the one of its
        record.
        """
        if self.subset:
            dataset = self.subset.of(dataset)
        if not self.split:
            return dataset
        try:
            return part_of_split(folder, record, dataset, self.split)
        except DatasetInvalid as error:
            if not self.subset:
                raise
            raise DatasetInvalid(
                f"Expected images of the {self.split} split of {record.name} in the subset "
                f"{self.subset.name} but none of its {len(dataset.table):,} is in that split; "
                "choose another split or another subset."
            ) from error

    def role(
        self,
        folder: Path,
        record: ModelRecord,
        dataset: Dataset,
    ) -> tuple[str, bool]:
        """Return the role of these images in training, and whether it makes a model look better.

        `dataset` is the one that the images are selected from.
        """
        if self.split:
            # A whole part of the split has one role, whatever its images are.
            return role_of(self.split, cross_validated=record.cross_validated)
        return part_in_training(folder, record, dataset)


ALL = Part()
