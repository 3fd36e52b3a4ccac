"""Tables of patients and labels of any kind, for tests of splits."""

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from raygrid.data.patients import is_placeholder, person_key

LINE = st.characters(exclude_categories=("Cc", "Cs"))  # control characters are refused by Index


@st.composite
def tables(draw: st.DrawFn) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Any ids of different persons, one, two or up to thirty images of a patient, labels from absent to everywhere."""
    names = st.text(LINE, max_size=6).filter(lambda name: not is_placeholder(name))
    ids = draw(st.lists(names, min_size=8, max_size=60, unique_by=person_key))
    labels = tuple(f"finding_{i}" for i in range(draw(st.integers(1, 4))))
    counts = draw(st.lists(st.integers(1, 2), min_size=len(ids), max_size=len(ids)))
    counts[0] = draw(st.integers(1, 30))
    frequencies = draw(st.tuples(*[st.sampled_from((0.0, 0.02, 0.5, 1.0))] * len(labels)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = [
        (patient, *(rng.random(len(labels)) < frequencies).astype(np.uint8))
        for patient, count in zip(ids, counts, strict=True)
        for _ in range(count)
    ]
    table = pd.DataFrame(rows, columns=["patient_id", *labels])
    table["image_id"], table["part"] = [f"i{i}" for i in range(len(table))], ""
    return table, labels
