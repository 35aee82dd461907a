"""Writes the section of the model card on heatmaps and their reliability."""

from typing import Any

from cadlib import command_hints
from cadlib.metrics.summary import DRAWS
from cadlib.metrics.tables import figure_of, figure_text, markdown_table, saliency_rows
from cadlib.model.record import ModelRecord
from cadlib.taxonomy import DIAGNOSES


def saliency(record: ModelRecord, figures: dict[str, Any]) -> list[str]:
    """Return how far the heatmaps can be trusted, or that it was not measured."""
    title = "## Saliency maps"
    measured = figures.get("saliency")
    if measured is None:
        command = command_hints.saliency_into(record.name)
        return [
            title,
            (
                "Not measured: whether the heatmaps show what an answer rests on. "
                f"`{command}` measures it."
            ),
        ]
    head, *rows = saliency_rows(measured)
    limits = measured["limits"]
    return [
        title,
        _method(measured),
        markdown_table(head, rows),
        _best(measured),
        (
            "`random` has the cells of the image's own map shuffled, `centre` is a spot in the "
            "middle: a lesion is there, so what a method adds to it counts. The last two columns "
            "are of a network with random weights (Adebayo et al., NeurIPS 2018): its maps should "
            "be unlike those of this model, and not faithful to its answers. A method whose "
            "untrained maps are alike or faithful shows in part what any network shows: the "
            "picture, not what was learnt."
        ),
        (
            f"95 % of the random maps have a faithfulness up to "
            f"{figure_text(limits['faithfulness'])} and agree with the map they were made of up to "
            f"{figure_text(limits['stability'])}. A map that is not above both is called "
            "unreadable where it is shown. By the diagnosis explained, for the default:"
        ),
        _by_diagnosis(measured["by_diagnosis"]),
        (
            "A diagnosis that the model also gives to bare skin rests on no part of the picture, "
            "so that no map can show what it rests on."
        ),
    ]


def _method(measured: dict[str, Any]) -> str:
    """Return the images and the measures in words."""
    sample = measured["sample"]
    which = "all"
    if measured["n"] != sample["of"]:
        which = f"a random sample, by {sample['strata']}, of"
    return (
        f"{measured['n']:,} images of {measured['n_lesions']:,} lesions ({which} the "
        f"{sample['of']:,} of the {measured['data']['split']} split), each explained for its most "
        "probable diagnosis. Faithfulness: the picture is painted over with its skin colour, the "
        "hottest sixth first and so on (deletion), and shown again in the same order (insertion); "
        "the area between the two curves of the probability, divided by its span, is 1 at most and "
        "about 0 on average for random maps. "
        "Stability: the correlation with the map of the picture turned by 90° and mirrored upside "
        "down. A gain is over the method that comes with each prediction. In brackets 95 % "
        f"intervals, from {DRAWS:,} draws of lesions; those of a gain are paired."
    )


def _by_diagnosis(part: dict[str, Any]) -> str:
    rows: list[tuple[str, ...]] = []
    for diagnosis in DIAGNOSES:
        code = diagnosis.code
        row = (
            f"{diagnosis.name} ({code})",
            str(part["n"][code]),
            figure_of(part, "faithfulness", code),
            figure_of(part, "unreadable", code),
        )
        rows.append(row)
    return markdown_table(("most probable diagnosis", "n", "faithfulness", "unreadable"), rows)


def _best(measured: dict[str, Any]) -> str:
    """Return which method measured best, and whether by more than chance."""
    default = next(iter(measured["gain"]))
    best = measured["best"]
    if best == default:
        faithfulness = figure_of(measured, "faithfulness", default)
        return f"The default, {default}, measured best: {faithfulness}."
    gain = figure_of(measured, "gain", best)
    interval = measured["intervals"]["gain"][best]
    sentence = f"{best} measured best, {gain} above the default, {default}"
    if interval and interval[0] > 0:
        return f"{sentence}: more than chance."
    return (
        f"{sentence}: no more than chance, so the default stays the one that comes with each "
        "prediction at no cost."
    )
