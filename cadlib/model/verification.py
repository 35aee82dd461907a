"""Verifies that a model folder is as it was written and that the model answers as it did then."""

from dataclasses import dataclass
from pathlib import Path

from cadlib.errors import ModelInvalid
from cadlib.model import golden, manifest
from cadlib.model.model import Model


@dataclass(frozen=True)
class Verification:
    """What differs in a model folder, one line each; `str()` is the text for a terminal."""

    folder: Path
    model_id: str
    files: int
    differences: tuple[str, ...]

    @property
    def unchanged(self) -> bool:
        """Tell whether nothing differs."""
        return not self.differences

    def __str__(self) -> str:
        if self.unchanged:
            lesions = len(golden.all_lesions())
            return (
                f"{self.model_id}: unchanged. {self.files} files are as they were written, and the answers for "
                f"{lesions} drawn lesions as on the day the model was made."
            )
        name = self.model_id or str(self.folder)
        return "\n".join(f"{name}: {difference}" for difference in self.differences)


def verify(folder: Path) -> Verification:
    """Compare a model folder with its manifest, and its answers with the golden ones; raise nothing for a bad one.

    The answers are compared where all files are as they were written: those of a changed model say nothing more.
    """
    try:
        listed = manifest.read_manifest(folder)
        changes = manifest.find_changes(folder)
    except ModelInvalid as error:
        return Verification(folder, "", 0, (str(error),))
    differences = [str(change) for change in changes]
    if not differences:
        try:
            model = Model.load(folder, check_answers=False)
            differences = [f"{drift} (answer changed)" for drift in golden.drift(model, folder)]
        except ModelInvalid as error:
            differences = [str(error)]
    return Verification(folder, listed.model, len(listed.files) + 1, tuple(differences))
