"""Report how often the model was correct, by its similar cases."""

from cadlib.metrics.conditions_schema import SimilarCases
from cadlib.metrics.tables import short_text
from cadlib.model.neighbours.index import Neighbours


def about_the_agreement(cases: Neighbours, measured: SimilarCases) -> str:
    """Return how often the model was correct when as many similar cases had its top diagnosis.

    `measured` is the section `neighbours` of metrics.json. The share is that of images without
    patient data, none of which is a training image.
    """
    count = str(cases.agreeing)
    split = measured.data.split
    share = measured.right_when_agreeing[count]
    cases_of_it = f"{count} of {measured.k} similar cases"
    if share is None:
        return (
            f"No {split} image had {cases_of_it} with the model's top diagnosis: "
            "it is not known how often this diagnosis is correct then."
        )
    interval = measured.intervals.right_when_agreeing[count]
    value = short_text(share, interval)
    n = measured.n_agreeing[count]
    return (
        f"When {cases_of_it} had the model's top diagnosis, "
        f"this diagnosis was correct for {value} of {n:,} {split} images."
    )
