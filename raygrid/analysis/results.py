"""The results of a finished study, as its pages use them: frames, tables, claims, effects and their origin.

Each is computed once and on demand. Nothing here imports PyTorch, Ray or MLflow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from raygrid.analysis import tables
from raygrid.analysis.assessment import Assessment
from raygrid.analysis.claims import judge_claims
from raygrid.analysis.effects import all_effects
from raygrid.analysis.frames import of_zoo
from raygrid.spec import ModelSpec, StudySpec, TargetSpec
from raygrid.store.folder import StudyFolder
from raygrid.store.provenance import StudyRecord
from raygrid.store.query_budget import NotAsked, QueryCell
from raygrid.store.samples import Samples
from raygrid.store.scores import transfer_facts
from raygrid.store.units import not_asked


@dataclass(frozen=True)
class StudyResults:
    """The results of a study folder whose frames are written. Raises StoreError if a frame that is read is absent."""

    folder: StudyFolder

    @property
    def study(self) -> StudySpec:
        """The declaration."""
        return self.folder.study

    @cached_property
    def record(self) -> StudyRecord:
        """The origin of images and results."""
        return self.folder.record

    @cached_property
    def samples(self) -> Mapping[str, Samples]:
        """The prepared images by modality, without the sources of pre-training."""
        return {modality.name: self.folder.samples(modality.name) for modality in self.study.studied}

    @cached_property
    def cards(self) -> Mapping[ModelSpec, Mapping[str, Any]]:
        """The cards of the trained models, in declared order."""
        folders = {model: self.folder.model(model) for model in self.study.models}
        return {model: found.card for model, found in folders.items() if found.is_trained}

    @cached_property
    def histories(self) -> Mapping[ModelSpec, Sequence[Mapping[str, float]]]:
        """The training histories of the trained models, in declared order."""
        return {model: self.folder.model(model).history for model in self.cards}

    @cached_property
    def transfer(self) -> Mapping[str, Mapping[str, Any]]:
        """Counts and seconds over the score files of each modality (`raygrid.store.scores.transfer_facts`)."""
        return {modality: transfer_facts(self.folder.units(modality)) for modality in self.samples}

    @cached_property
    def not_asked(self) -> NotAsked:
        """The cells outside the query budget, by modality and target."""
        found: dict[tuple[str, str], set[QueryCell]] = {}
        for modality in self.study.studied if self.study.targets else ():
            found |= not_asked(self.folder.units(modality.name))
        return found

    @cached_property
    def auc(self) -> pd.DataFrame:
        """The AUC frame."""
        return self.folder.results.auc()

    @cached_property
    def decisions(self) -> pd.DataFrame:
        """The decisions at the operating point."""
        return self.folder.results.decisions()

    @cached_property
    def perceptibility(self) -> pd.DataFrame:
        """The mean size of the changes."""
        return self.folder.results.perceptibility()

    @cached_property
    def zoo_auc(self) -> pd.DataFrame:
        """The AUC frame without the networks that raygrid did not train."""
        return of_zoo(self.auc)

    @cached_property
    def epsilon(self) -> float:
        """The epsilon of Tables 2 and 3, of the heat maps and of comparisons of surrogates."""
        return tables.default_epsilon(attack.epsilon for attack in self.study.transfer.attacks)

    @cached_property
    def tables(self) -> Mapping[int, pd.DataFrame]:
        """The cells of the paper's three tables, by number."""
        return tables.paper_tables(self.auc, study=self.study)

    @cached_property
    def claims(self) -> pd.DataFrame:
        """Every statement of the paper's claims with its verdict."""
        return judge_claims(self.tables, self.study.margins)

    @cached_property
    def effects(self) -> pd.DataFrame:
        """The effect of every factor, on both outcomes."""
        return all_effects(self.auc, seed=self.study.seed)

    @cached_property
    def unlearned(self) -> Sequence[str]:
        """The models of the zoo that did not learn, as modality/name."""
        return tables.unlearned(self.auc)

    @cached_property
    def missing(self) -> pd.DataFrame:
        """The pairings that lack results, except those outside the query budget."""
        return tables.missing_pairings(self.auc, self.study, self.not_asked)

    @cached_property
    def assessments(self) -> Sequence[Assessment]:
        """An assessment of every target that raygrid did not train and that has clean scores, in declared order."""
        return [self._assessment(target) for target in self.study.targets if len(_rows_of(target, self.auc))]

    def _assessment(self, target: TargetSpec) -> Assessment:
        return Assessment(
            study=self.study,
            target=target,
            auc=_rows_of(target, self.auc),
            decisions=_rows_of(target, self.decisions),
            perceptibility=self.perceptibility,
            not_asked=self.not_asked.get((target.modality, target.name), frozenset()),
        )


def _rows_of(target: TargetSpec, frame: pd.DataFrame) -> pd.DataFrame:
    return frame[(frame["modality"] == target.modality) & (frame["target"] == target.name)]
