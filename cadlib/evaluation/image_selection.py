"""Which images of a data set are measured: a part of the model's own split, a saved subset, what both share, or all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cadlib.data.dataset import Dataset
from cadlib.data.subsets import Subset
from cadlib.errors import DatasetInvalid
from cadlib.model.audit_result import role_of
from cadlib.model.record import ModelRecord
from cadlib.model.split import part_in_training, part_of_split


@dataclass(frozen=True)
class Part:
    """The images that are in `split` ("train", "validation" or "test") and in `subset`; None leaves none out."""

    split: str | None = None
    subset: Subset | None = None

    @property
    def named(self) -> str:
        """Return what a reader calls these images of a data set, to be followed by "of" and its name."""
        split, subset = (
            f"the {self.split} split",
            f"the subset “{self.subset.name}”" if self.subset else "",
        )
        if self.split:
            return f"{subset} within {split}" if subset else split
        return subset or "all images"

    @property
    def facts(self) -> dict[str, Any]:
        """Return what metrics.json says of it under `data`."""
        subset = self.subset and {"name": self.subset.name, "sha256": self.subset.sha256}
        return {name: value for name, value in (("split", self.split), ("subset", subset)) if value}

    def of(self, folder: Path, record: ModelRecord, dataset: Dataset) -> Dataset:
        """Return these images of a data set; `folder` and `record` are those of the model whose split it is.

        Raise DatasetInvalid where there is none, and ModelInvalid when its split.csv is not the one of its record.
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
                f"Expected images of the {self.split} split of {record.name} in the subset {self.subset.name} but none "
                f"of its {len(dataset.table):,} is in that split; choose another split or another subset."
            ) from error

    def role(self, folder: Path, record: ModelRecord, dataset: Dataset) -> tuple[str, bool]:
        """Say what part these images, `of` a data set, had in training, and whether a model looks better for it."""
        return role_of(self.split) if self.split else part_in_training(folder, record, dataset)


ALL = Part()
