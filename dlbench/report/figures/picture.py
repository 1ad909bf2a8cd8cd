"""matplotlib's figure, which notebooks show; imported when a figure is drawn, because matplotlib is slow to import."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """A figure that a notebook shows without pyplot, whatever matplotlib's backend is."""

    def _repr_png_(self) -> bytes:
        image = io.BytesIO()
        self.savefig(image, format="png", dpi=110, bbox_inches="tight")
        return image.getvalue()
