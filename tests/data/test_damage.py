"""Warnings about suspect images are collected; all other warnings are shown as before."""

import warnings

import pytest

from raygrid.data.damage import SuspectImageWarning, suspicions


def test_suspect_images_are_collected_each_time_and_others_pass():
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        with suspicions() as found:
            for path in ("a.png", "a.png", "b.png"):
                warnings.warn(SuspectImageWarning(f"{path}: one grey level"), stacklevel=2)
            warnings.warn("a library is old", DeprecationWarning, stacklevel=2)
        warnings.warn(SuspectImageWarning("c.png: outside the block"), stacklevel=2)
    assert found == ["a.png: one grey level"] * 2 + ["b.png: one grey level"]
    assert [str(w.message) for w in shown] == ["a library is old", "c.png: outside the block"]


def test_text_quoted_from_a_file_adds_no_line():
    assert str(SuspectImageWarning("a.dcm: Modality C\nT\x1b")) == r"a.dcm: Modality C\nT\x1b"


def test_filters_for_other_warnings_hold_inside_the_block():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with suspicions() as found:
            warnings.warn(SuspectImageWarning("a.png: one grey level"), stacklevel=2)
            with pytest.raises(UserWarning, match="another"):
                warnings.warn("another", stacklevel=2)
        with pytest.raises(SuspectImageWarning):
            warnings.warn(SuspectImageWarning("b.png: after the block"), stacklevel=2)
    assert found == ["a.png: one grey level"]


def test_the_block_ends_with_an_error_as_without_it():
    before = warnings.showwarning
    with pytest.raises(ValueError, match="x"), suspicions():
        raise ValueError("x")
    assert warnings.showwarning is before
