"""The docstrings of the specs are the user's reference: examples run, and every field is described."""

import dataclasses
import doctest
import importlib
import re

import pytest

from raygrid.spec import (
    AnswerSpec,
    AttackSpec,
    Case,
    DatasetSpec,
    EndpointSpec,
    EnsembleSpec,
    InputSpec,
    Margins,
    ModalitySpec,
    ModelSpec,
    Recipe,
    SplitSpec,
    StudySpec,
    TargetSpec,
    TransferSpec,
)

SPECS = (
    AnswerSpec,
    AttackSpec,
    Case,
    DatasetSpec,
    EndpointSpec,
    EnsembleSpec,
    InputSpec,
    Margins,
    ModalitySpec,
    ModelSpec,
    Recipe,
    SplitSpec,
    StudySpec,
    TargetSpec,
    TransferSpec,
)


@pytest.mark.parametrize("module", ["attacks", "models", "study"])
def test_examples_give_the_documented_values(module: str) -> None:
    results = doctest.testmod(importlib.import_module(f"raygrid.spec.{module}"))
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
def test_every_field_is_documented(spec: type) -> None:
    described = re.findall(r"^        (\w+): ", spec.__doc__ or "", flags=re.MULTILINE)
    names = [field.name for field in dataclasses.fields(spec)]
    assert [name for name in described if name in names] == names
