"""A study of an endpoint, from its budget to its AUCs: the server gets the planned images, each once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scored_zoo import as_row, changed, opened, run_missing, scorer_of, units_of
from target_server import Reply, TargetServer
from toy_zoo import MODEL, RECIPE, make_samples, make_zoo

from raygrid.analysis.frames import result_frames
from raygrid.models.training import train
from raygrid.models.zoo import load_frozen
from raygrid.scoring.networks import verify_external
from raygrid.spec import EndpointSpec, TargetSpec, TransferSpec, attack_grid
from raygrid.store.folder import StudyFolder
from raygrid.store.query_budget import allowance
from raygrid.store.units import missing_files
from raygrid.study.status import left_for_larger_budgets

TRANSFER = TransferSpec(attacks=attack_grid((0.12, 0.15)), block_size=16)
NUM_TEST = 24


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    zoo = make_zoo(tmp_path_factory.mktemp("study"), replace(RECIPE, epochs=1, augmentations=()), transfer=TRANSFER)
    train(zoo, MODEL, make_samples(zoo.samples_dir("toy")))
    return zoo


def clinic(server: TargetServer, max_images: int) -> TargetSpec:
    endpoint = EndpointSpec(batch_size=8, requests_per_second=1000, max_images=max_images, retries=0)
    return TargetSpec(modality="toy", label="clinic", kind="http", source=server.url, endpoint=endpoint)


def test_a_model_behind_an_endpoint_has_its_aucs_within_a_budget_and_gets_no_image_twice(zoo: StudyFolder) -> None:
    network = load_frozen(zoo, MODEL)

    def answer(images: list[np.ndarray]) -> list[list[float]]:
        batch = torch.from_numpy(np.stack(images)).float()
        with torch.no_grad():
            return network(batch * 2 - 1).numpy().astype(float).tolist()

    with TargetServer(answer) as server:
        some = clinic(server, 26 + 48 * 2)
        limited = changed(zoo, targets=(some,))
        verify_external(limited, some, opened(limited))
        server.replies.append(Reply(status=400, body="no"))  # one unit fails, and is tried again
        scorer, errors = scorer_of(limited), []
        for file in missing_files(units_of(limited)):
            errors.append(scorer(as_row(limited, file))["error"][0])
        assert sum(map(bool, errors)) == 1
        run_missing(limited)
        sent = sum(server.counts.values())
        assert sent <= allowance(limited.study, some, NUM_TEST).num_images + 8
        assert max(server.counts.values()) <= 2  # twice: those of the request that failed
        assert sorted(server.counts.values())[-9] == 1
        assert "2 of 4 (surrogate, attack) cells" in left_for_larger_budgets(limited)[0]
        whole = changed(zoo, targets=(clinic(server, 0),))
        run_missing(whole)
        assert len(server.counts) <= NUM_TEST * (1 + 2 * 4)
        before = sum(server.counts.values())
        assert missing_files(units_of(whole)) == []
        assert sum(server.counts.values()) == before
    frame = result_frames(whole, "toy", opened(whole))[0]
    keys = ["surrogate", "attack", "epsilon", "condition"]
    own, same = (frame[frame["target"] == t].set_index(keys)["auc"] for t in (MODEL.name, "external-clinic"))
    assert own.nunique() > 3
    assert np.abs(own - same.reindex(own.index)).max() < 1e-4
