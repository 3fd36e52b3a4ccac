"""The track stage: the study's models, pairings and results as MLflow runs. No other module uses MLflow.

Each study has one parent run, with a child run per trained model and per pairing. Every run has a key, the hash of its
content. A run with a known key stays unchanged, so uploading again changes nothing, and a lost tracking server can be
filled again from the folder.
"""

import json
import math
import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from raygrid.errors import TrackingError
from raygrid.hashing import digest
from raygrid.io.files import checksum, read_json
from raygrid.io.mirror import pull, push
from raygrid.progress import Progress
from raygrid.spec import EXTERNAL, StudySpec
from raygrid.store.folder import StudyFolder
from raygrid.store.samples import samples_dir

_DATABASE, _ARTEFACTS = "mlflow.db", "mlartifacts"  # of the study's own store
_KEY = "raygrid.key"
_PARENT_KEY = "raygrid.parent"
MAX_RESULTS = 1000
_DIGEST_LENGTH = 36  # MLflow's limit for the digest of a data set
_FACTORS = ("arch", "init", "split", "instance")


@dataclass(frozen=True)
class _Run:
    """The content of one MLflow run.

    Attributes:
        steps: metrics with a step, the epoch.
        late: metrics that may become known after the run was written.
        used: the prepared samples: name, signature, context (`training` or `evaluation`).
    """

    name: str
    kind: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    steps: tuple[tuple[str, int, float], ...] = ()
    artefacts: tuple[Path, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    late: Mapping[str, float] = field(default_factory=dict)
    used: tuple[str, str, str] | None = None

    def key(self, parent: str) -> str:
        """Return the hash that identifies the run."""
        content: dict[str, Any] = {"params": {k: str(v) for k, v in self.params.items()}, "metrics": dict(self.metrics)}
        content["steps"] = [list(step) for step in self.steps]
        return digest({"parent": parent, "name": self.name, "kind": self.kind, **content})


def default_uri(study_dir: Path) -> str:
    """Return the URI of the study's own SQLite store."""
    return f"sqlite:///{(study_dir / _DATABASE).absolute()}"


def upload_runs(folder: StudyFolder, auc: pd.DataFrame, uri: str | None = None, *, phantom: bool) -> int:
    """Write every model, pairing and result that the tracking store lacks; return the number of new runs.

    Raises TrackingError if the store does not answer: its runs stay, and uploading again adds the rest.
    """
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # MLflow's own 7 take four minutes
    try:
        if uri is None:
            pull(folder.path / _DATABASE)
        new = _upload_runs(folder, auc, uri, phantom=phantom)
        if uri is None:
            push(folder.path / _ARTEFACTS)
            push(folder.path / _DATABASE)
        return new
    except Exception as error:  # MLflow's, SQLAlchemy's, a driver's, a disk's: none of them may stop a study
        raise TrackingError(
            f"mlflow: {without_password(uri or default_uri(folder.path))} cannot be written: {_first_line(error, uri)}",
            "Nothing is lost: the study folder holds all results; run with --only track once the store answers",
        ) from error


def without_password(uri: str) -> str:
    """Return a URI without its password and its query, which could hold one."""
    if uri.startswith(("http://", "https://")):
        scheme, _, rest = uri.partition("://")
        user, at, place = rest.rpartition("@")
        return f"{scheme}://{'***' if user else ''}{at}{place.partition('?')[0]}"
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(uri).set(query={}).render_as_string(hide_password=True)
    except ArgumentError:  # a path, or a scheme of MLflow's own
        return uri


def _first_line(error: Exception, uri: str | None) -> str:
    """Return the first line of an error; only its type if the URI of the store holds credentials."""
    if uri is not None and without_password(uri) != uri:
        return type(error).__name__
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _upload_runs(folder: StudyFolder, auc: pd.DataFrame, uri: str | None, *, phantom: bool) -> int:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri or default_uri(folder.path))
    experiment = _experiment(client, f"raygrid/{folder.study.name}", folder.path if uri is None else None)
    parent_key = digest({"study": folder.study.to_dict(), "samples": dict(folder.sample_signatures)})
    tags = {_PARENT_KEY: parent_key, "raygrid.phantom": str(phantom).lower()}
    known = _known_runs(client, experiment, parent_key)
    parent = (
        known[parent_key].info.run_id if parent_key in known else _create_parent(client, experiment, folder.study, tags)
    )
    runs = [*_trial_runs(folder, auc), *_pairing_runs(auc, folder.sample_signatures)]
    new = [run for run in runs if run.key(parent_key) not in known]
    progress = Progress("mlflow: runs", len(runs), done=len(runs) - len(new))
    for run in new:
        _write(client, experiment, run, {**tags, "mlflow.parentRunId": parent}, run.key(parent_key))
        progress.advance(run.name)
    for run in runs:
        _add_late(client, known.get(run.key(parent_key)), run)
    if len(auc):
        _attach_results(client, parent, folder.path)
    return len(new)


def _experiment(client: Any, name: str, study_dir: Path | None) -> str:
    found = client.get_experiment_by_name(name)
    location = None if study_dir is None else (study_dir / _ARTEFACTS).absolute().as_uri()
    if found is not None:
        if study_dir is not None and found.artifact_location != location:
            _move_artefacts(study_dir / _DATABASE, str(found.artifact_location), str(location))
        return str(found.experiment_id)
    return str(client.create_experiment(name, artifact_location=location))


def _move_artefacts(database: Path, before: str, now: str) -> None:
    """Point a store from another folder or machine to the artefacts here; MLflow has no call for it."""
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            connection.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (before, now))


def _known_runs(client: Any, experiment: str, parent_key: str) -> dict[str, Any]:
    """Return every complete run by its key; delete the half-written runs of a killed driver."""
    known: dict[str, Any] = {}
    half_written: list[str] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`{_PARENT_KEY}` = '{parent_key}'", max_results=MAX_RESULTS, page_token=token
        )
        for run in page:
            if run.info.status == "FINISHED":
                known[run.data.tags[_KEY]] = run
            else:
                half_written.append(run.info.run_id)
        token = page.token
        if not token:
            break
    for run_id in half_written:  # not earlier: each deletion shifts the next pages
        client.delete_run(run_id)
    return known


def _create_parent(client: Any, experiment: str, study: StudySpec, tags: Mapping[str, str]) -> str:
    epsilons = sorted({a.epsilon for a in study.transfer.attacks})
    params = {
        "study": study.name,
        "seed": study.seed,
        "models": len(study.models),
        "modalities": ", ".join(m.name for m in study.studied),
        "attacks": ", ".join(sorted({a.name for a in study.transfer.attacks})),
        "epsilons": ", ".join(f"{e:g}" for e in epsilons),
    }
    run = _Run(f"study {study.name}", "study", params, {})
    return _write(client, experiment, run, tags, tags[_PARENT_KEY])


def _write(client: Any, experiment: str, run: _Run, tags: Mapping[str, str], key: str) -> str:
    from mlflow.entities import Metric, Param

    tags = {**tags, **run.tags, _KEY: key, "raygrid.kind": run.kind, "mlflow.runName": run.name}
    created = client.create_run(experiment, tags=tags, run_name=run.name)
    run_id, time = str(created.info.run_id), int(created.info.start_time)
    metrics = [
        Metric(name, value, time, 0) for name, value in {**run.metrics, **run.late}.items() if math.isfinite(value)
    ]
    metrics += [Metric(name, value, time, step) for name, step, value in run.steps]
    params = [Param(name, str(value)) for name, value in run.params.items()]
    client.log_batch(run_id, metrics=metrics, params=params)
    if run.used:
        client.log_inputs(run_id, datasets=[_dataset_input(*run.used)])
    for path in run.artefacts:
        client.log_artifact(run_id, str(path))
    client.set_terminated(run_id, "FINISHED")
    return run_id


def _dataset_input(name: str, signature: str, context: str) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"uri": str(samples_dir(Path(), name, signature))})  # in the study folder
    dataset = Dataset(name=name, digest=signature[:_DIGEST_LENGTH], source_type="local", source=source)
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", context)])


def _add_late(client: Any, written: Any, run: _Run) -> None:
    if written is not None:
        for name, value in run.late.items():
            if name not in written.data.metrics:
                client.log_metric(written.info.run_id, name, value)


def _trial_runs(folder: StudyFolder, auc: pd.DataFrame) -> Iterable[_Run]:
    clean = auc[auc["condition"] == "clean"].set_index("target_signature") if len(auc) else auc
    for model in folder.study.models:
        if not folder.model(model).is_trained:
            continue
        card = folder.model(model).card
        metrics = {
            name: float(card[name]) for name in ("validation_auc", "best_epoch", "num_training_images", "seconds")
        }
        known = len(auc) > 0 and card["signature"] in clean.index
        curves = ("loss", "validation_auc", "validation_loss")
        steps = tuple(
            (f"epoch.{name}", int(e["epoch"]), e[name]) for e in folder.model(model).history for name in curves
        )
        yield _Run(
            name=f"{model.modality} {model.name}",
            kind="trial",
            params={**card["model"], **{f"recipe.{k}": v for k, v in card["recipe"].items()}},
            metrics=metrics,
            steps=steps,
            artefacts=(folder.model(model).card_path,),
            tags={"raygrid.signature": card["signature"]},
            late={"clean_auc": float(clean.loc[card["signature"], "auc"])} if known else {},
            used=(model.modality, folder.sample_signatures[model.modality], "training"),
        )


def _pairing_runs(auc: pd.DataFrame, samples: Mapping[str, str]) -> Iterable[_Run]:
    attacked = auc[(auc["condition"] != "clean") & auc["modality"].isin(list(samples))] if len(auc) else auc
    if not len(attacked):
        return
    for (modality, surrogate, target), rows in attacked.groupby(["modality", "surrogate", "target"], sort=False):
        first = rows.iloc[0]
        factors = {f"{role}_{name}": first[f"{role}_{name}"] for role in ("surrogate", "target") for name in _FACTORS}
        known = first["surrogate_kind"] != EXTERNAL  # the factors of an external network are unknown
        same = {
            f"same_{name}": bool(known and first[f"surrogate_{name}"] == first[f"target_{name}"])
            for name in _FACTORS[:3]
        }
        metrics: dict[str, float] = {}
        for row in rows.itertuples():
            where = f"{row.attack}.{row.epsilon:g}.{row.condition}"
            metrics[f"auc.{where}"] = float(row.auc)  # type: ignore[arg-type]
            metrics[f"relative_auc.{where}"] = float(row.relative_auc)  # type: ignore[arg-type]
        metrics["clean_auc"] = float(first["clean_auc"])  # last, because the UI plots the first metric by default
        yield _Run(
            name=f"{modality} {surrogate} → {target}",
            kind="pairing",
            params={"modality": str(modality), **factors, **same, "white_box": bool(first["white_box"])},
            metrics=metrics,
            tags={
                "raygrid.surrogate_signature": first["surrogate_signature"],
                "raygrid.target_signature": first["target_signature"],
            },
            used=(str(modality), samples[str(modality)], "evaluation"),
        )


def _attach_results(client: Any, parent: str, study_dir: Path) -> None:
    """Copy the study's results to the parent run if they have changed."""
    results = study_dir / "results"
    files = sorted(p for p in results.rglob("*") if p.is_file() and not p.name.startswith("."))
    if not (results / "summary.json").exists():  # written last
        return
    state = digest({str(p.relative_to(results)): checksum(p) for p in files})
    if client.get_run(parent).data.tags.get("raygrid.results") == state:
        return
    client.log_artifacts(parent, str(results), "results")
    client.log_artifact(parent, str(study_dir / "study.json"))
    summary = read_json(results / "summary.json")
    for name, value in summary.items():
        if isinstance(value, (int, float)) and math.isfinite(value):
            client.log_metric(parent, name, float(value))
    client.set_tag(parent, "raygrid.results", state)
