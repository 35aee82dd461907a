"""Lists doubtful labels, duplicates, contradictions and unreadable files of a data set.

A person should review each of them.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from cadlib.cli.command import CliCommand
from cadlib.cli.options import data_option, file_option, model_option
from cadlib.cli.usage import check_data, check_file, check_model, model_folder, write_text


@dataclass(frozen=True, kw_only=True)
class Suspects(CliCommand):
    """Searches a data set for images that a person should look at again."""

    EXAMPLE: ClassVar[str] = "cadlib suspects --data isic2019/ --output suspects.csv"

    data: Annotated[Path, data_option()]
    model: Annotated[str, model_option()] = "isic2019"
    output: Annotated[Path, file_option("CSV file with one row a finding, and its verdict.")]

    def run(self) -> int:
        """Run the command and return its exit code."""
        check_model(self.model)
        check_data(self.data)
        check_file(self.output)

        # Imported after the checks, so that bad usage is reported at once.
        from cadlib import label_review
        from cadlib.data.dataset import open_dataset
        from cadlib.data.label_check import check_labelled
        from cadlib.label_review.search import find_suspects
        from cadlib.model.model import Model
        from cadlib.progress import ProgressBars

        folder = model_folder(self.model)
        dataset = open_dataset(self.data, verify=False)
        # Damaged verdicts raise an error here, before minutes of work.
        label_review.read_verdicts(dataset.name)
        print(dataset.report, file=sys.stderr)
        with ProgressBars() as progress:
            model = Model.load(folder)
            suspects = find_suspects(model, folder, dataset, progress)
        label_review.keep(suspects, dataset)
        # Read again: a reader may have given verdicts during the search.
        verdicts = label_review.read_verdicts(dataset.name)
        suspects = label_review.beside(suspects, verdicts)
        write_text(self.output, suspects.to_csv())
        print(suspects)
        # Some of the lists need no labels, so they are checked last.
        check_labelled(dataset, malignant_alone=True)
        return 0
