"""The API reference as HTML, from the docstrings of what warmops and warmdiff export: ``python docs/reference.py [FOLDER]``.

The default folder is build/reference. Needs pdoc: pip install '.[docs]'. A warning of pdoc is an error.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

PACKAGES = ("warmops", "warmdiff")


def build(folder: Path) -> list[Path]:
    """Writes the pages into a folder; their paths."""
    import pdoc

    pdoc.render.configure(docformat="google", search=False, show_source=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # pdoc looks for the types of a named tuple's fields outside of its module.
        warnings.filterwarnings("ignore", r"Error parsing type annotation ForwardRef\('Tensor'\) for \S+\.__init__")
        pdoc.pdoc(*PACKAGES, *(rf"!{name}\." for name in PACKAGES), output_directory=folder)
    return [folder / f"{name}.html" for name in PACKAGES]


if __name__ == "__main__":
    if len(sys.argv) > 2 or sys.argv[1:2] in (["-h"], ["--help"]):
        sys.exit(__doc__)
    for page in build(Path(*sys.argv[1:]) if sys.argv[1:] else Path(__file__).resolve().parent.parent / "build" / "reference"):
        print(page)
