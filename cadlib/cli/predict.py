"""Diagnoses image files, prints the results, and writes heatmaps on request."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import typer

from cadlib.cli.command import CliCommand
from cadlib.cli.options import folder_option, model_option
from cadlib.cli.usage import UsageError, check_model, make_folder
from cadlib.errors import FactsRejected, ModelInvalid

# `--help` does not wait for these imports, which need numpy and OpenCV.
if TYPE_CHECKING:
    from cadlib.data.folder_walk import Fault
    from cadlib.images.patient import PatientFacts
    from cadlib.metrics.conditions_schema import SimilarCases
    from cadlib.model.model import Model
    from cadlib.model.record import ModelRecord

POINT_HELP = (
    "Operating point, which sets the referral threshold: one of the model's, "
    "as rule-out, balanced or rule-in. "
    "rule-in refers the fewest lesions; a referral there does not confirm malignancy."
)
VIEWS_HELP = (
    "Read each image only as it is, not its eight flips and quarter turns. "
    "For large folders: it takes an eighth of the time, "
    "but the result changes when an image is turned, and thresholds were not chosen for it."
)
SITE_HELP = "Site of the lesion, a term of ISIC 2019: 'head/neck', 'upper extremity', …"


@dataclass(frozen=True, kw_only=True)
class Predict(CliCommand):
    """Diagnoses image files."""

    EXAMPLE: ClassVar[str] = (
        "cadlib predict lesion.jpg\n"
        "cadlib predict images/ --format csv --heatmap heatmaps/ > results.csv"
    )

    files: Annotated[
        list[Path], typer.Argument(help="Images, or folders of images.", metavar="FILE")
    ]
    model: Annotated[str, model_option()] = "isic2019"
    operating_point: Annotated[str, typer.Option(help=POINT_HELP, metavar="NAME")] = "balanced"
    format: Annotated[Literal["table", "json", "csv"], typer.Option(help="What to print.")] = (
        "table"
    )
    age: Annotated[
        float | None,
        typer.Option(
            help="Age of the patient in years, for all files; it replaces that of a header.",
            metavar="YEARS",
        ),
    ] = None
    sex: Annotated[
        str | None, typer.Option(help="Sex of the patient: female or male.", metavar="SEX")
    ] = None
    site: Annotated[str | None, typer.Option(help=SITE_HELP, metavar="SITE")] = None
    views: Annotated[Literal["1"] | None, typer.Option(help=VIEWS_HELP)] = None
    heatmap: Annotated[
        Path | None, folder_option("Write a saliency map of the top diagnosis to this folder.")
    ] = None

    def run(self) -> int:
        """Run the command and return its exit code."""
        from cadlib.cli.image_files import images_in
        from cadlib.cli.image_outcomes import Request, Tally, assess_files
        from cadlib.images import start_decoders

        files = []
        faults: list[Fault] = []
        for path in self.files:
            listing = images_in(path, self.heatmap)
            files += listing.files
            faults += listing.faults
        # Checked before the model is loaded, which takes longer.
        facts = self._facts(check_model(self.model))
        if self.heatmap:
            make_folder(self.heatmap)

        # Decoders start while the import and the model load, which take longer.
        start_decoders()

        from cadlib.cli.prediction_output import PRINTERS, print_table
        from cadlib.data.swapped_channels import warning
        from cadlib.model.model import Model

        model = Model.load(self.model, views=1 if self.views else None)
        tally = Tally()
        request = Request(facts, self.operating_point, self.heatmap)
        outcomes = assess_files(model, files, faults, request, tally)
        if self.format == "table":
            # Only the table states how often such an agreement was correct.
            measured = _measured_neighbours(model)
            print_table(outcomes, sys.stdout, measured)
        else:
            PRINTERS[self.format](outcomes, sys.stdout)
        swapped_warning = warning(tally.swapped, tally.assessed)
        if swapped_warning:
            print(f"cadlib: {swapped_warning}", file=sys.stderr)
        return 1 if tally.failed else 0

    def _facts(self, record: "ModelRecord") -> "PatientFacts":
        """Return the patient facts; raise UsageError where the model cannot use them."""
        from cadlib.images.patient import COARSE_SITES, PatientFacts

        try:
            facts = PatientFacts(self.age, self.sex, self.site)
            if facts.known:
                record.required_evidence()
            # This raises an error for a point that the model does not have.
            record.operating_point(self.operating_point, with_facts=facts.usable)
        except (FactsRejected, ModelInvalid) as error:
            raise UsageError(str(error)) from error
        site = facts.site
        if site in COARSE_SITES:
            finer = ", ".join(COARSE_SITES[site])
            note = f"The site {site} is not used: the model knows {finer}."
            print(note, file=sys.stderr)
        return facts


def _measured_neighbours(model: "Model") -> "SimilarCases | None":
    """Return how often the model was correct by its similar cases, or None if not measured."""
    from cadlib.model.metrics_file import measured

    try:
        return measured(model.folder, model.record).neighbours
    except ModelInvalid:
        # A prediction does not depend on these metrics.
        return None
