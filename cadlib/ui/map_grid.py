"""Draws saliency maps of diagnoses and methods side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cadlib.assessment import Assessment
from cadlib.metrics.operating_point import two_digits
from cadlib.saliency.heatmap import METHODS, Heatmap
from cadlib.taxonomy import diagnosis
from cadlib.ui.image_views import describe_heatmap, heatmap, overlay, side_by_side
from cadlib.ui.models import default_method
from cadlib.ui.text import mark
from cadlib.ui.trust import trust, trust_line, trust_tile

TILE_SIDE_PX = 360
Place = tuple[str, str]
"""Diagnosis code and key of a method: the row and the column of a map."""
GRID_METHODS = tuple(method for method in METHODS if method.key != "hirescam")
"""Methods that have a column. The map of HiResCAM equals that of Grad-CAM."""
_BY_KEY = {method.key: method for method in GRID_METHODS}


@dataclass(frozen=True)
class MapGrid:
    """The maps of the image `name`: a row for each of `codes`, a column for each method."""

    assessment: Assessment
    name: str
    codes: Sequence[str]

    def draw(self, enlarged: DeltaGenerator) -> None:
        """Draw all maps, the large one in `enlarged`, and then their checks."""
        large = self._large_place()
        _draw_method_names()
        grid = st.container()
        maps = self._compute_maps()
        captions: dict[Place, DeltaGenerator] = {}
        for code in self.codes:
            row = self._draw_row(grid, code)
            for column, key in zip(row, _BY_KEY, strict=True):
                place = (code, key)
                captions[place] = self._draw_tile(
                    column,
                    place,
                    maps,
                    is_large=place == large,
                )
        with enlarged:
            line = self._draw_large(maps, large)
        # The checks take longer than the maps, so they come last, those of the large map first.
        self._draw_trust(captions, line, maps, large)

    def _large_place(self) -> Place:
        """Return the map that is large: the one that was enlarged, else the first."""
        large: Place | None = st.session_state.get("large")
        # The state may be from another image, with other diagnoses.
        if large is not None and self._has(large):
            return large
        key = default_method().key
        if key not in _BY_KEY:
            key = METHODS[0].key
        return self.codes[0], key

    def _has(self, place: Place) -> bool:
        """Return whether the grid has a map at a place."""
        code, key = place
        return code in self.codes and key in _BY_KEY

    def _compute_maps(self) -> dict[Place, Heatmap]:
        """Compute the map of each diagnosis by each method, with a progress bar."""
        maps: dict[Place, Heatmap] = {}
        total = len(self.codes) * len(GRID_METHODS)
        bar = st.empty()
        for code in self.codes:
            for method in GRID_METHODS:
                done = len(maps)
                share = done / total
                text = f"Computing map {done + 1} of {total}"
                bar.progress(share, text)
                heat = heatmap(self.assessment, code, method)
                maps[code, method.key] = heat
        bar.empty()
        return maps

    def _peak(self, maps: dict[Place, Heatmap], key: str) -> float | None:
        """Return the highest value of a method's maps, None if all are 0."""
        peaks = [maps[code, key].raw_peak for code in self.codes]
        highest = max(peaks)
        # A scale from 0 to 0 has no colours.
        return highest or None

    def _draw_row(self, grid: DeltaGenerator, code: str) -> list[DeltaGenerator]:
        """Draw the name of a diagnosis, and return the columns of its row."""
        ranking = dict(self.assessment.prediction.ranking())
        probability = two_digits(ranking[code])
        symbol = mark(code)
        name = diagnosis(code).name
        grid.markdown(f"{symbol} **{code}** {name} {probability}")
        n_methods = len(GRID_METHODS)
        return grid.columns(n_methods, wrap=False)

    def _draw_tile(
        self,
        column: DeltaGenerator,
        place: Place,
        maps: dict[Place, Heatmap],
        *,
        is_large: bool,
    ) -> DeltaGenerator:
        """Draw a small map with the button that enlarges it; return the place of its caption."""
        code, key = place
        heat = maps[place]
        image = self.assessment.image
        peak_text = f"peak {heat.raw_peak:.2g}"
        # One scale for a method, so that a reader can compare diagnoses down a column.
        blend = overlay(image, heat, peak=self._peak(maps, key), side_px=TILE_SIDE_PX)
        words = f"{describe_heatmap(heat)}, {peak_text}"
        column.image(blend, width="stretch", output_format="JPEG", alt=words)
        column.button(
            "Enlarge",
            f"large-{code}-{key}",
            "Show this map enlarged above",
            _enlarge,
            place,
            type="primary" if is_large else "secondary",
            width="stretch",
        )
        caption = column.empty()
        caption.caption(trust_tile(heat, None))
        return caption

    def _draw_large(self, maps: dict[Place, Heatmap], large: Place) -> DeltaGenerator:
        """Draw the large map beside the image; return the place of its checks."""
        _, key = large
        heat = maps[large]
        side_by_side(
            self.assessment.image,
            heat,
            self.name,
            peak=self._peak(maps, key),
        )
        line = st.empty()
        trust_line(line, heat, None)
        return line

    def _draw_trust(
        self,
        captions: dict[Place, DeltaGenerator],
        line: DeltaGenerator,
        maps: dict[Place, Heatmap],
        large: Place,
    ) -> None:
        """Measure each map, and write the result below it."""
        for place in sorted(captions, key=lambda place: place != large):
            code, key = place
            heat = maps[place]
            method = _BY_KEY[key]
            measured = trust(self.assessment, code, method)
            text = trust_tile(heat, measured)
            captions[place].caption(text)
            if place == large:
                trust_line(line, heat, measured)


def _enlarge(code: str, method: str) -> None:
    """Make one map the large one."""
    st.session_state["large"] = (code, method)


def _draw_method_names() -> None:
    """Draw the names of the methods above their columns."""
    n_methods = len(GRID_METHODS)
    columns = st.columns(n_methods, wrap=False)
    method_columns = zip(columns, GRID_METHODS, strict=True)
    for column, method in method_columns:
        name = f"**{method.name}**"
        if not method.class_specific:
            name += " :gray[not class-specific]"
        column.markdown(name)
