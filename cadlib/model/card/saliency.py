"""The section of the card on heatmaps: which method shows best what an answer rests on, and how many may be read."""

from collections.abc import Iterator
from typing import Any

from cadlib import command_hints
from cadlib.metrics.summary import DRAWS
from cadlib.metrics.tables import figure_of, figure_text, markdown_table, saliency_rows
from cadlib.model.record import ModelRecord
from cadlib.taxonomy import DIAGNOSES


def saliency(record: ModelRecord, figures: dict[str, Any]) -> list[str]:
    """Say how far the heatmaps may be trusted, or that nobody measured it."""
    title, found = "## Saliency maps", figures.get("saliency")
    if found is None:
        command = command_hints.saliency_into(record.name)
        return [
            title,
            f"Not measured: whether the heatmaps show what an answer rests on. `{command}` measures it.",
        ]
    sample = found["sample"]
    of = "all" if found["n"] == sample["of"] else f"a random sample, by {sample['strata']}, of"
    head, *rows = saliency_rows(found)
    return [
        title,
        (
            f"{found['n']:,} images of {found['n_lesions']:,} lesions ({of} the {sample['of']:,} of the "
            f"{found['data']['split']} split), each explained for its most probable diagnosis. Faithfulness: the "
            "picture is painted over with its skin colour, the hottest sixth first and so on (deletion), and shown "
            "again in the same order (insertion); the area between the two curves of the probability, divided by its "
            "span, is 1 at most and about 0 on average for random maps. "
            "Stability: the correlation with the map of the picture turned by 90° and mirrored upside "
            "down. A gain is over the method that comes with each prediction. In "
            f"brackets 95 % intervals, from {DRAWS:,} draws of lesions; those of a gain are paired."
        ),
        markdown_table(head, rows),
        _best(found),
        (
            "`random` has the cells of the image's own map shuffled, `centre` is a spot in the middle: a lesion is "
            "there, so what a method adds to it counts. The last two columns are of a network with random weights "
            "(Adebayo et al., NeurIPS 2018): its maps should be unlike those of this model, and not faithful to its "
            "answers. A method whose untrained maps are alike or faithful shows in part what any network shows: the "
            "picture, not what was learnt."
        ),
        (
            f"95 % of the random maps have a faithfulness up to {figure_text(found['limits']['faithfulness'])} and "
            f"agree with the map they were made of up to {figure_text(found['limits']['stability'])}. A map that "
            "is not above both is called unreadable where it is shown. By the diagnosis explained, for the default:"
        ),
        markdown_table(
            ("most probable diagnosis", "n", "faithfulness", "unreadable"), _by_diagnosis(found)
        ),
        (
            "A diagnosis that the model also gives to bare skin rests on no part of the picture, so that no map can "
            "show what it rests on."
        ),
    ]


def _by_diagnosis(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    part = found["by_diagnosis"]
    for d in DIAGNOSES:
        figures = (figure_of(part, name, d.code) for name in ("faithfulness", "unreadable"))
        yield f"{d.name} ({d.code})", str(part["n"][d.code]), *figures


def _best(found: dict[str, Any]) -> str:
    """Say which method measured best, and whether by more than chance."""
    usual, best = next(iter(found["gain"])), found["best"]
    if best == usual:
        return f"The default, {usual}, measured best: {figure_of(found, 'faithfulness', usual)}."
    gain, interval = figure_of(found, "gain", best), found["intervals"]["gain"][best]
    measured = f"{best} measured best, {gain} above the default, {usual}"
    if interval and interval[0] > 0:
        return f"{measured}: more than chance."
    return f"{measured}: no more than chance, so the default stays the one that comes with each prediction at no cost."
