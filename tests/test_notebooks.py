"""Every notebook runs from top to bottom and reproduces its stored outputs.

Printed numbers must agree with the stored ones within ``TOLERANCE``, or within the ``tolerance``
in the cell's metadata. Processors round differently, so training can end in another machine. Cells
that print such numbers state a wider tolerance.
"""

from __future__ import annotations

import os
import re
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TOLERANCE = 0.02  # relative
NUMBER = re.compile(r"[-−+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def printed(cell: nbformat.NotebookNode) -> str:
    """The text that a cell wrote to stdout, and the tables that it shows."""
    outputs = cell.get("outputs", [])
    streams = [o.text for o in outputs if o.get("name") == "stdout"]
    shown = [o.data for o in outputs if o.output_type in ("display_data", "execute_result")]
    return "".join([*streams, *(data["text/plain"] for data in shown if "text/html" in data)])


def numbers(text: str) -> list[float]:
    return [float(number.replace("−", "-")) for number in NUMBER.findall(text)]


def differences(stored: nbformat.NotebookNode, executed: nbformat.NotebookNode) -> list[str]:
    """Describe each cell whose printed text or numbers differ from the stored ones."""
    found = []
    for old, new in zip(stored.cells, executed.cells, strict=True):
        if old.cell_type != "code":
            continue
        before, now = printed(old), printed(new)
        tolerance = old.metadata.get("tolerance", TOLERANCE)
        same = NUMBER.sub("#", before).split() == NUMBER.sub("#", now).split()
        close = numbers(now) == pytest.approx(numbers(before), rel=tolerance, abs=1e-4)
        if not (same and close):
            found.append(f"stored:\n{before}\nthis code, tolerance {tolerance}:\n{now}")
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook(
    path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if path.stem in ("figure_1", "figure_6"):
        folder = request.getfixturevalue("fashion_mnist_directory")
        monkeypatch.setenv("WIDE_FLAT_MINIMA_DATA", str(folder))
    packages = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(packages))
    stored = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    executed = NotebookClient(deepcopy(stored), timeout=600, resources=resources).execute()
    assert not (wrong := differences(stored, executed)), "\n\n".join(wrong)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_prose_has_no_measured_numbers_and_outputs_no_traces(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"```.*?```|`[^`]*`", "", cell.source, flags=re.DOTALL)
            assert not re.search(r"\d\.\d", prose), prose
        else:
            assert "execution" not in cell.metadata  # the time it ran
            assert not any(output.get("name") == "stderr" for output in cell.outputs)
            assert not re.search(r"(^|\s)/\w+/", printed(cell)), "a path of one machine"


def test_stale_numbers_and_words_are_seen() -> None:
    def notebook(text: str, **metadata: float) -> nbformat.NotebookNode:
        stream = nbformat.v4.new_output("stream", name="stdout", text=text)
        cell = nbformat.v4.new_code_cell("", outputs=[stream], metadata=metadata)
        return nbformat.v4.new_notebook(cells=[cell])

    stored = notebook("Φ = −0.500 ± 0.010 (n = 3)")
    assert not differences(stored, notebook("Φ = -0.501 ± 0.010 (n = 3)"))
    assert differences(stored, notebook("Φ = -0.550 ± 0.010 (n = 3)"))
    assert differences(stored, notebook("Ψ = -0.500 ± 0.010 (n = 3)"))
    loose = notebook("Φ = −0.500 ± 0.010 (n = 3)", tolerance=0.2)
    assert not differences(loose, notebook("Φ = -0.550 ± 0.010 (n = 3)"))
