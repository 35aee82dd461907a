"""Verifies that a model folder and its answers are unchanged."""

from dataclasses import dataclass
from pathlib import Path

from cadlib.errors import ModelInvalid
from cadlib.model import golden, manifest
from cadlib.model.model import Model


@dataclass(frozen=True)
class Verification:
    """The differences in a model folder, one line each; `str()` is the text for a terminal."""

    folder: Path
    model_id: str
    files: int
    differences: tuple[str, ...]

    @property
    def unchanged(self) -> bool:
        """Return whether there are no differences."""
        return not self.differences

    def __str__(self) -> str:
        if self.unchanged:
            lesions = len(golden.all_lesions())
            return (
                f"{self.model_id}: unchanged. {self.files} files match the manifest, "
                f"and the results for {lesions} synthetic lesions match the stored ones."
            )
        name = self.model_id or str(self.folder)
        return "\n".join(f"{name}: {difference}" for difference in self.differences)


def verify(folder: Path) -> Verification:
    """Compare a model folder with its manifest, and its answers with the golden ones.

    Differences are returned, not raised. The answers are compared only where all files are
    unchanged: those of a changed model add nothing.
    """
    try:
        listed = manifest.read_manifest(folder)
        changes = manifest.find_changes(folder)
    except ModelInvalid as error:
        reason = str(error)
        return Verification(folder, "", 0, (reason,))
    differences = [str(change) for change in changes]
    if not differences:
        differences = _changed_answers(folder)
    # The manifest is a file too.
    n_files = len(listed.files) + 1
    return Verification(
        folder,
        listed.model,
        n_files,
        tuple(differences),
    )


def _changed_answers(folder: Path) -> list[str]:
    try:
        model = Model.load(folder, check_answers=False)
        drifts = golden.drift(model, folder)
        return [f"{drift} (result changed)" for drift in drifts]
    except ModelInvalid as error:
        return [str(error)]
