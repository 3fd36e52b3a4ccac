"""How trials are requested, ordered and tried again; the machinery of Ray itself runs in the slow tests."""

import dataclasses
from pathlib import Path

import pytest
from toy_zoo import MODEL, make_zoo

from raygrid.errors import ClusterError, TrainingError
from raygrid.io.files import write_json
from raygrid.models.memory import CONTEXT_BYTES, training_bytes
from raygrid.spec import DatasetSpec, ModalitySpec, ModelSpec, Recipe, SplitSpec, StudySpec, TransferSpec, attack_grid
from raygrid.store.folder import StudyFolder
from raygrid.study.cluster import Resources, share_resources
from raygrid.study.train import MOST_PER_GPU, Request, SourcesFirst, max_concurrent_trials, request_of, run_trial
from raygrid.study.transfer import READER_CPUS

GIB = 2**30
CPU = Resources("cpu", 4, 4, 0, 0.75, 0, 4)
GPU = Resources("cuda", 16, 16, 24 * GIB, 0.5, 1, 1)


def zoo_with_source(folder: Path) -> StudyFolder:
    recipe = Recipe(epochs=1)
    modalities = [
        ModalitySpec(
            name=name,
            dataset=DatasetSpec(loader="phantom_fundus", image_size=32, channels=3),
            splits=SplitSpec(test_fraction=0.2),
            recipe=recipe,
            source=name == "public",
        )
        for name in ("toy", "public")
    ]
    models = (
        ModelSpec(modality="toy", arch="test_resnet", init="pretrained_on:public", split="d1"),
        ModelSpec(modality="public", arch="test_resnet", init="random", split="development"),
    )
    transfer = TransferSpec(attacks=attack_grid((0.02,)))
    study = StudySpec(name="s", seed=0, modalities=tuple(modalities), models=models, transfer=transfer)
    return StudyFolder(folder, study, {"toy": "0" * 64, "public": "1" * 64})


def test_a_model_waits_for_its_source(tmp_path: Path) -> None:
    zoo = zoo_with_source(tmp_path)
    searcher = SourcesFirst(zoo, [Request(m, 1, 0.0) for m in zoo.study.models])
    assert searcher.suggest("a")["model"] == 1
    assert searcher.suggest("b") is None
    write_json(zoo.model(zoo.study.models[1]).path / "card.json", {"weights_sha256": ""})
    searcher.on_trial_complete("a", {"finished": True})
    assert searcher.suggest("b")["model"] == 0
    assert searcher.suggest("c") is None
    searcher.on_trial_complete("b", {"finished": True})
    assert searcher.suggest("c") == SourcesFirst.FINISHED


def test_a_model_whose_source_failed_is_not_waited_for(tmp_path: Path) -> None:
    zoo = zoo_with_source(tmp_path)
    searcher = SourcesFirst(zoo, [Request(m, 1, 0.0) for m in zoo.study.models])
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"failed": "the loss is not finite"})
    assert searcher.suggest("b") == SourcesFirst.FINISHED


def test_out_of_memory_comes_again_with_a_larger_share_up_to_a_whole_gpu(tmp_path: Path) -> None:
    zoo = make_zoo(tmp_path)
    searcher = SourcesFirst(zoo, [Request(MODEL, 1, 0.3)])
    shares = []
    for trial in "abcdef":
        config = searcher.suggest(trial)
        if config == SourcesFirst.FINISHED:
            break
        shares.append(config["gpus"])
        searcher.on_trial_complete(trial, {"out_of_memory": True, "failed": "…"})
    assert shares == [0.3, 0.6, 1.0]


def test_a_trial_asks_for_a_cpu_per_thread(tmp_path: Path) -> None:
    zoo = make_zoo(tmp_path, Recipe(epochs=1, threads=3))
    assert request_of(zoo, MODEL, CPU, None) == Request(MODEL, 3, 0.0)
    with pytest.raises(ClusterError, match=r"expected a node with 3 CPUs.*the largest node has 2"):
        request_of(zoo, MODEL, dataclasses.replace(CPU, node_cpus=2), None)


def test_share_of_a_gpu_is_named_or_follows_from_memory(
    tmp_path: Path, samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = make_zoo(tmp_path)
    monkeypatch.setattr("raygrid.store.folder.samples_dir", lambda *args: samples.folder)
    assert request_of(zoo, MODEL, GPU, 5).gpus == 1 / 5
    assert request_of(zoo, MODEL, GPU, None).gpus == 1 / MOST_PER_GPU
    needed = training_bytes(MODEL.arch, zoo.study.modalities[0].dataset, zoo.study.recipe_of(MODEL), num_outputs=1)
    three = dataclasses.replace(GPU, gpu_bytes=int(3.5 * needed))
    assert request_of(zoo, MODEL, three, None).gpus == 1 / 3
    assert request_of(zoo, MODEL, dataclasses.replace(GPU, gpu_bytes=needed // 2), None).gpus == 1


def test_memory_grows_with_the_batch_and_the_image() -> None:
    def needed(size: int, batch: int) -> int:
        dataset = DatasetSpec(loader="x", image_size=size, channels=3)
        return training_bytes("densenet121", dataset, Recipe(epochs=1, batch_size=batch), num_outputs=1) - CONTEXT_BYTES

    small, twice, large = needed(96, 16), needed(96, 32), needed(192, 16)
    weights = 1.25 * 4 * 4 * 6_954_881
    assert (twice - weights) / (small - weights) == pytest.approx(2, rel=0.01)
    assert (large - weights) / (small - weights) == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("cpus", [1, 2, 4, 64])
def test_actors_on_every_cpu_leave_room_for_a_reader(cpus: int) -> None:
    shared = share_resources({"CPU": float(cpus)}, device="cpu", node_cpus=cpus, gpu_bytes=0)
    assert shared.num_actors == cpus
    assert shared.num_actors * shared.actor_cpus + READER_CPUS <= cpus


def test_where_nodes_may_join_all_trials_wait_for_a_place_so_that_a_cluster_sees_them() -> None:
    requests = [Request(MODEL, cpus=2, gpus=0.0)] * 9
    assert max_concurrent_trials(requests, CPU) == 2
    assert max_concurrent_trials(requests, dataclasses.replace(CPU, may_grow=True)) == 9
    assert max_concurrent_trials(requests, GPU) == 9


def test_a_cluster_without_a_cpu_is_refused() -> None:
    with pytest.raises(ClusterError, match="expected a cluster with at least 1 CPU, got 0"):
        share_resources({}, device="cpu", node_cpus=0, gpu_bytes=0)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TrainingError("the loss is not finite"), {"failed": "the loss is not finite"}),
        (RuntimeError("CUDA out of memory. Tried to allocate"), {"out_of_memory": True}),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), {"out_of_memory": True}),
        (ValueError("Kernel size can't be greater"), {"failed": "ValueError: Kernel size can't be greater"}),
    ],
)
def test_what_would_come_again_is_reported_and_not_raised(
    tmp_path: Path, samples, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: dict
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error

    zoo, reports = make_zoo(tmp_path), []
    monkeypatch.setattr("raygrid.models.training.train", fail)
    monkeypatch.setattr("raygrid.store.folder.samples_dir", lambda *args: samples.folder)
    monkeypatch.setattr("raygrid.study.train.tune.report", reports.append)
    job = {"study": zoo.study.to_dict(), "study_dir": str(tmp_path), "samples": dict(zoo.sample_signatures)}
    run_trial({"model": 0, "cpus": 1, "gpus": 0.0}, {**job, "device": "cpu", "provenance": {}})
    (report,) = reports
    assert report.items() >= {k: v for k, v in expected.items() if k != "failed"}.items()
    assert report["failed"].startswith(expected.get("failed", "out of memory"))
    assert (zoo.model(MODEL).path / "failure.txt").exists() == isinstance(error, ValueError)
