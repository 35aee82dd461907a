"""Defines what can go wrong, as one tree of errors.

    CadError              everything below; a front end catches this and shows its text
    ├── ImageRejected     this file is not an image that can be read
    ├── DecoderUnavailable  the process that decodes images cannot be started
    ├── HoldingFull       a session, or the server, holds as many images as it may
    ├── FolderRefused     this folder is not one that a reader may open
    ├── FactsRejected     the model cannot take this age, sex or site of a patient
    ├── ModelInvalid      this folder is not a model that can be trusted to run
    ├── ClinicInvalid     the settings of a clinic cannot be used or stored
    ├── DatasetInvalid    these images and tables hold nothing usable
    ├── SubsetInvalid     this named selection of images cannot be used or saved
    ├── StudyInvalid      these readings are not a study that can be analysed or written
    ├── VerdictsInvalid   the verdicts of readers on suspects cannot be read or saved
    ├── TrainingFailed    a run could not start or continue; no model was written
    ├── CaseRejected      a patient, a reading or other details cannot be stored as entered
    ├── CaseMissing       the store has no such patient, lesion or image, or not any more
    ├── CaseChanged       somebody else corrected a case that is being corrected
    ├── CaseStoreFailed   the database or the place of images cannot be used; nothing was saved
    ├── ReportRejected    a report cannot be written from these details
    ├── RunInvalid        this folder holds no training run whose curves can be read
    └── DownloadFailed    a file could not be fetched or is wrong; no partial file has its name

Every message states what was expected, what came, and what to do.
"""


class CadError(Exception):
    """Any failure that cadlib foresees; its text is written for the person at the screen."""


class ImageRejected(CadError):
    """The bytes of an image cannot be read as one upright RGB image."""


class DecoderUnavailable(CadError):
    """The process that decodes images cannot be started, so this machine can read no image."""


class HoldingFull(CadError):
    """One more image would exceed what a session, or all sessions together, may hold."""


class FolderRefused(CadError):
    """A reader names a folder outside those that the operator of the server allows."""


class FactsRejected(CadError):
    """An age, a sex or a site is outside the terms that a model knows, or the model takes none."""


class ModelInvalid(CadError):
    """A model folder is missing, incomplete, altered or of a format this version does not know."""


class ClinicInvalid(CadError):
    """A prevalence or operating point of a clinic cannot be used, or its file read or saved."""


class DatasetInvalid(CadError):
    """Images and CSV files that hold no usable labelled image."""


class SubsetInvalid(CadError):
    """A named selection of images is missing, has an unusable name or file, or cannot be saved."""


class VerdictsInvalid(CadError):
    """A verdict on a finding is not allowed, or the file of verdicts cannot be used or written."""


class StudyInvalid(CadError):
    """Readings of a study are incomplete, repeated or contradictory, or their file is."""


class TrainingFailed(CadError):
    """Training could not start or continue; no partial model has the model's name."""


class RunInvalid(CadError):
    """A folder of runs, or the curves of a run, cannot be read."""


class CaseRejected(CadError):
    """Details of a case are out of range or contradict what is stored."""


class CaseMissing(CadError):
    """The store has no patient, lesion, visit or image with this id."""


class CaseChanged(CadError):
    """Somebody else changed a case between its display and its correction."""


class CaseStoreFailed(CadError):
    """The database or the place of images cannot be used; nothing was saved."""


class ReportRejected(CadError):
    """Details of a report are out of range, or belong to another image or model."""


class DownloadFailed(CadError):
    """A file could not be fetched or unpacked, or is wrong; no partial file has its name."""
