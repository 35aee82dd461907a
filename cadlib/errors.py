"""What can go wrong, as one tree.

    CadError              everything below; a front end catches this and shows its text
    ├── ImageRejected     this file is no picture that can be read
    ├── DecoderUnavailable  the process that decodes images cannot be started
    ├── HoldingFull       a session, or the server, holds as many images as it may
    ├── FolderRefused     this folder is not one that a reader may open
    ├── FactsRejected     this age, sex or site of a patient is none that a model can take
    ├── ModelInvalid      this folder is no model that can be trusted to run
    ├── ClinicInvalid     what a clinic chose cannot be used, or not be remembered
    ├── DatasetInvalid    these images and tables hold nothing usable
    ├── SubsetInvalid     this named selection of images cannot be used, or not be saved
    ├── VerdictsInvalid   what readers said of suspects cannot be read, or not be saved
    ├── TrainingFailed    a run could not start or go on; no model was written
    ├── RunInvalid        this folder holds no run of training whose curves can be read
    └── DownloadFailed    a file could not be fetched, or is not what it should be; no half stands under its name

Every message says what was expected, what came, and what to do.
"""


class CadError(Exception):
    """Any failure that cadlib foresees; its text is written for the person at the screen."""


class ImageRejected(CadError):
    """The bytes given as an image cannot be read as one upright RGB picture."""


class DecoderUnavailable(CadError):
    """The process that decodes images cannot be started, so no image can be read on this machine."""


class HoldingFull(CadError):
    """One more image would exceed what a session, or all sessions together, may hold."""


class FolderRefused(CadError):
    """A reader names a folder outside of those that the operator of the server allows."""


class FactsRejected(CadError):
    """An age, a sex or a site is outside the terms that a model knows, or the model takes none."""


class ModelInvalid(CadError):
    """A model folder is missing, incomplete, altered or of a format this version does not know."""


class ClinicInvalid(CadError):
    """A prevalence or an operating point of a clinic cannot be used, or its file not be read or written."""


class DatasetInvalid(CadError):
    """Images and CSV files that hold no usable labelled image."""


class SubsetInvalid(CadError):
    """A named selection of images is not there, or its name or its file cannot be used, or it cannot be saved."""


class VerdictsInvalid(CadError):
    """A verdict on a finding is none that can be given, or the file of verdicts cannot be used, or not be written."""


class TrainingFailed(CadError):
    """Training could not start or continue; nothing half-made stands under the model's name."""


class RunInvalid(CadError):
    """A folder of runs, or the curves of a run, cannot be read."""


class DownloadFailed(CadError):
    """A file could not be fetched or unpacked, or is not what was asked for; nothing half-made has its name."""
