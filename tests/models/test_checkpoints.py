"""Checkpoints as people keep them: the weights arrive whole under the network's names, or an error names the reason."""

import argparse
import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from raygrid.errors import WeightsError
from raygrid.models.architectures import build_pretrained
from raygrid.models.checkpoints import read_fitting
from raygrid.models.tensor_files import read_tensors
from raygrid.store.weight_sources import weights_identity


def make_network(outputs: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(outputs))


def fresh(outputs: int = 1, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network = make_network(outputs)
    network(torch.zeros(2, 3, 8, 8))
    return network.eval()


WEIGHTS = fresh(seed=1).state_dict()
OTHERS = fresh(seed=2).state_dict()
OPTIMIZER = {"state": {0: {"step": torch.ones(1), "exp_avg": torch.ones(4, 3, 3, 3)}}, "param_groups": [{"lr": 0.1}]}
NOT_WEIGHTS = ("num_batches_tracked", "total_ops", "total_params", "n_averaged")


def prefixed(prefix: str, weights: dict[str, Tensor] = WEIGHTS) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in weights.items()}


def written(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def require_whole(tensors: dict[str, Tensor], weights: dict[str, Tensor] = WEIGHTS) -> None:
    """Check that the tensors are the weights: every one, and no others."""
    names = {name for name in weights if not name.endswith(NOT_WEIGHTS)}
    assert {name for name in tensors if not name.endswith(NOT_WEIGHTS)} == names
    assert all(torch.equal(tensors[name], weights[name]) for name in names)


class Averaged(nn.Module):
    """A network in which a layer is named as averages are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ema, self.last = nn.Linear(2, width), nn.Linear(width, 2)


COMMON = {
    "plain": WEIGHTS,
    "state_dict": {"epoch": 3, "state_dict": WEIGHTS},
    "model_state_dict": {"model_state_dict": WEIGHTS, "optimizer_state_dict": OPTIMIZER, "loss": torch.tensor(0.1)},
    **{name: {name: WEIGHTS} for name in ("model", "net", "network", "weights", "module", "params")},
    "nested": {"model": {"state_dict": {"net": WEIGHTS}}},
    "DataParallel": {"state_dict": prefixed("module.")},
    "compiled": prefixed("_orig_mod."),
    "compiled DataParallel": prefixed("module._orig_mod.module."),
    "Lightning": {"state_dict": prefixed("model."), "optimizer_states": [OPTIMIZER], "callbacks": {}, "loops": {}},
    "Lightning of a compiled network": {"state_dict": prefixed("net._orig_mod.")},
    "backbone": {"model": prefixed("backbone.")},
    "an unknown optimizer": {"net": WEIGHTS, "adam": OPTIMIZER, "lr_schedulers": [{"base": 1.0}]},
    "thop": WEIGHTS | {"total_ops": torch.zeros(1), "0.total_params": torch.zeros(1)},
    "thop in DataParallel": prefixed("module.") | {"total_ops": torch.zeros(1), "module.0.total_ops": torch.zeros(1)},
    "AveragedModel": prefixed("module.") | {"n_averaged": torch.tensor(5)},
    "no counters": {name: tensor for name, tensor in WEIGHTS.items() if not name.endswith("num_batches_tracked")},
    "average alone": {"state_dict_ema": prefixed("module.")},
    "two names of one dict": {"model": WEIGHTS, "net": WEIGHTS},
}
BY_FIT = {
    "an attribute of any name": {"state_dict": prefixed("classifier_net.")},
    "the weights of a loss beside": {"state_dict": prefixed("model.") | {"criterion.weight": torch.ones(2)}},
    "inside the names": {name.replace("0.", "0.module.", 1): tensor for name, tensor in WEIGHTS.items()},
    "two networks, of which one fits": {"generator": prefixed("g."), "discriminator": {"0.weight": torch.ones(9, 9)}},
    "one network under two names": prefixed("model.") | prefixed("net."),
}


@pytest.mark.parametrize("form", COMMON)
def test_common_checkpoints_are_unwrapped(form: str, tmp_path: Path) -> None:
    path = written(tmp_path / "checkpoint.ckpt", COMMON[form])
    require_whole(read_tensors(path))
    require_whole(read_fitting(path, fresh().state_dict()))


@pytest.mark.parametrize("form", BY_FIT)
def test_prefixes_are_removed_if_the_names_of_the_network_are_complete_behind_them(form: str, tmp_path: Path) -> None:
    require_whole(read_fitting(written(tmp_path / "checkpoint.pth", BY_FIT[form]), fresh().state_dict()))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "model.module."])
def test_a_wrapped_network_takes_plain_weights(prefix: str, tmp_path: Path) -> None:
    own = prefixed(prefix, fresh().state_dict())
    found = read_fitting(written(tmp_path / "plain.pth", WEIGHTS), own)
    require_whole({name.removeprefix(prefix): tensor for name, tensor in found.items()})
    require_whole(read_fitting(written(tmp_path / "same.pth", prefixed(prefix)), own), prefixed(prefix))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".tar", ".pth.tar", ""])
def test_files_of_torch_save_have_any_suffix(suffix: str, tmp_path: Path) -> None:
    require_whole(read_tensors(written(tmp_path / f"weights{suffix}", WEIGHTS)))
    require_whole(read_tensors(written(tmp_path / f"old{suffix}", WEIGHTS, _use_new_zipfile_serialization=False)))


def test_safetensors_with_metadata_and_shared_tensors(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "a.safetensors", metadata={"format": "pt", "note": "0.weight"})
    require_whole(read_tensors(tmp_path / "a.safetensors"))
    (tmp_path / "a.safetensors").rename(tmp_path / "a.pt")
    require_whole(read_tensors(tmp_path / "a.pt"))  # by its content, not its name
    require_whole(read_tensors(written(tmp_path / "b.safetensors", WEIGHTS)))
    network = nn.ModuleDict({"one": nn.Linear(2, 2), "two": nn.Linear(2, 2)})
    network["two"].weight = network["one"].weight
    save_model(network, str(tmp_path / "tied.safetensors"))
    require_whole(read_tensors(tmp_path / "tied.safetensors"), network.state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_half_precision_becomes_float32_exactly(dtype: torch.dtype, suffix: str, tmp_path: Path) -> None:
    halves = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in WEIGHTS.items()}
    path = tmp_path / f"half{suffix}"
    save_file(halves, path) if suffix == ".safetensors" else torch.save(halves, path)
    tensors = read_tensors(path)
    assert tensors["0.weight"].dtype == torch.float32
    require_whole(tensors, {name: tensor.float() for name, tensor in halves.items()})


def test_doubles_are_kept_for_a_network_of_doubles(tmp_path: Path) -> None:
    doubles = fresh(seed=3).double().state_dict()
    tensors = read_tensors(written(tmp_path / "double.pth", doubles))
    assert tensors["0.weight"].dtype == torch.float64
    require_whole(tensors, doubles)


# --- several sets of weights


@pytest.mark.parametrize(
    ("content", "raw", "average"),
    [
        ({"state_dict": WEIGHTS, "state_dict_ema": OTHERS}, "state_dict", "state_dict_ema"),
        ({"model": WEIGHTS, "model_ema": prefixed("module.", OTHERS)}, "model", "model_ema"),
        ({"model": WEIGHTS, "ema": {"decay": 0.9, "module": OTHERS}}, "model", "ema"),
        ({"net": WEIGHTS, "ema_state_dict": OTHERS, "optimizer": OPTIMIZER}, "net", "ema_state_dict"),
        ({"params": WEIGHTS, "params_ema": OTHERS}, "params", "params_ema"),
        ({"state_dict": prefixed("model.") | prefixed("ema_model.", OTHERS)}, "state_dict.model", "ema_model"),
        ({"state_dict": WEIGHTS | prefixed("ema.", OTHERS)}, "state_dict.raw", "state_dict.ema"),
        (prefixed("model.") | prefixed("model_ema.", OTHERS) | {"n_averaged": torch.ones(1)}, "model", "model_ema"),
        (
            {"state_dict": prefixed("model."), "callbacks": {"EMACallback": {"weights": OTHERS}}},
            "state_dict",
            "weights",
        ),
    ],
)
def test_averages_beside_raw_weights_are_a_choice(
    content: dict[str, Any], raw: str, average: str, tmp_path: Path
) -> None:
    path, own = written(tmp_path / "both.ckpt", content), fresh().state_dict()
    for read in (read_tensors, lambda path: read_fitting(path, own)):
        with pytest.raises(WeightsError, match=rf"holds 2 sets of weights: .*{raw}, .*{average}.*weights_entry="):
            read(path)
    for entry, expected in ((raw, WEIGHTS), (average, OTHERS)):
        require_whole(read_tensors(path, entry), expected)
        require_whole(read_fitting(path, own, entry=entry), expected)
    with pytest.raises(WeightsError, match="holds no set of weights 'emma'; it holds"):
        read_tensors(path, "emma")


def test_two_networks_that_fit_are_a_choice_unless_they_are_equal(tmp_path: Path) -> None:
    path, own = (
        written(tmp_path / "two.ckpt", prefixed("student.") | prefixed("teacher.", OTHERS)),
        fresh().state_dict(),
    )
    with pytest.raises(WeightsError, match=r"2 sets of weights: student, teacher; choose one: weights_entry='student'"):
        read_fitting(path, own)
    require_whole(read_fitting(path, own, entry="teacher"), OTHERS)
    best = written(tmp_path / "best.pth", {"model": WEIGHTS, "best": OTHERS})
    for read in (read_tensors, lambda path: read_fitting(path, own)):
        with pytest.raises(WeightsError, match="2 sets of weights: model, best"):
            read(best)


def test_a_small_part_of_another_network_is_loaded_on_demand_alone(tmp_path: Path) -> None:
    large = {"decoder.weight": torch.ones(99, 99)}
    path, own = written(tmp_path / "large.pth", prefixed("encoder.") | large), fresh().state_dict()
    with pytest.raises(WeightsError, match=r"behind encoder fit .* most of the file is outside .*entry='encoder'"):
        read_fitting(path, own)
    require_whole(read_fitting(path, own, entry="encoder"))
    moco = {"state_dict": prefixed("module.encoder_q.") | prefixed("module.encoder_k.", OTHERS) | large}
    path = written(tmp_path / "moco.pth.tar", moco)
    with pytest.raises(WeightsError, match=r"2 sets of weights: state_dict\.encoder_q, state_dict\.encoder_k"):
        read_fitting(path, own)
    require_whole(read_fitting(path, own, entry="encoder_k"), OTHERS)


def test_an_average_without_names_is_explained(tmp_path: Path) -> None:
    shadow = {"decay": 0.9, "shadow_params": list(OTHERS.values())}
    path = written(tmp_path / "shadow.pth", {"model": WEIGHTS, "ema": shadow})
    with pytest.raises(WeightsError, match=r"2 sets of weights: model, ema\.shadow_params"):
        read_tensors(path)
    require_whole(read_tensors(path, "model"))
    with pytest.raises(WeightsError, match="a list without names"):
        read_fitting(path, fresh().state_dict(), entry="ema")


def test_a_layer_named_as_averages_are_is_a_layer(tmp_path: Path) -> None:
    weights = Averaged(3).state_dict()
    require_whole(read_tensors(written(tmp_path / "attention.pth", weights)), weights)
    alike = Averaged(2).state_dict()  # the two layers have the same shapes, so only the network tells them apart
    for content in (alike, {"state_dict": alike}, prefixed("module.", alike)):
        path = written(tmp_path / "alike.pth", content)
        require_whole(read_fitting(path, Averaged(2).state_dict()), alike)


def test_a_model_of_the_zoo_names_its_set_of_weights(tmp_path: Path) -> None:
    torch.manual_seed(1)
    raw, average = (timm.create_model("test_resnet").state_dict() for _ in range(2))
    path = written(tmp_path / "timm.pth.tar", {"state_dict": raw, "state_dict_ema": average, "optimizer": OPTIMIZER})

    def first_layer(source: str) -> Tensor:
        built = build_pretrained("test_resnet", source, channels=3, num_outputs=1, seed=0)
        return built.network.state_dict()["conv1.0.weight"]

    with pytest.raises(WeightsError, match=r"state_dict, state_dict_ema.*or for a model of the zoo file:.*#state_dict"):
        first_layer(f"file:{path}")
    assert torch.equal(first_layer(f"file:{path}#state_dict"), raw["conv1.0.weight"])
    assert torch.equal(first_layer(f"file:{path}#state_dict_ema"), average["conv1.0.weight"])
    identities = {
        weights_identity("test_resnet", f"file:{path}{end}") for end in ("", "#state_dict", "#state_dict_ema")
    }
    assert len(identities) == 3


def test_pretrained_weights_of_lightning_fit_a_network_with_a_new_head(tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = timm.create_model("test_resnet", num_classes=5).state_dict()
    content = {"state_dict": prefixed("model.", state) | {"criterion.pos_weight": torch.ones(5)}}
    path = written(tmp_path / "epoch=3.ckpt", content)
    built = build_pretrained("test_resnet", f"file:{path}", channels=3, num_outputs=2, seed=0)
    own = built.network.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in state.items() if not name.startswith("fc."))


# --- weights that do not fit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {k: v for k, v in w.items() if k != "1.running_mean"}, r"1 absent from the file \(1.running_mean\)"),
        (lambda w: {k: v for k, v in w.items() if k[0] != "3"}, r"2 absent from the file \(3.weight, 3.bias\)"),
        (lambda w: w | {"4.weight": torch.ones(2)}, r"1 not in the network \(4.weight\)"),
        (lambda w: w | {f"{k}.x": torch.ones(2) for k in range(7)}, r"7 not in .*\(0.x, 1.x, 2.x, 3.x, 4.x, …\)"),
        (
            lambda w: w | {"0.weight": torch.ones(4, 1, 3, 3)},
            r"1 of another shape \(0.weight: \[4, 1, 3, 3\] in the file, \[4, 3, 3, 3\] in the network\)",
        ),
        (lambda w: {f"model.{k}": v for k, v in w.items() if k != "0.bias"}, r"1 absent from the file \(0.bias\)"),
        (lambda w: w | {f"model.{k}": v for k, v in w.items() if k != "0.bias"}, r"1 absent from the file"),
    ],
)
def test_a_misfit_names_the_tensors(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "wrong.pth", {"state_dict": change(dict(WEIGHTS))})
    with pytest.raises(WeightsError, match=rf"wrong.pth does not fit the network; tensors: .*{message}"):
        read_fitting(path, fresh().state_dict())


def test_a_head_of_another_task_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "imagenet.pth", fresh(outputs=1000).state_dict())
    with pytest.raises(WeightsError, match="the head in the file has 1000 outputs, the network's has 1: make them eq"):
        read_fitting(path, fresh().state_dict())


def test_a_part_of_a_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model-00001-of-00002.safetensors"
    save_file({name: tensor for name, tensor in WEIGHTS.items() if name[0] == "0"}, path)
    with pytest.raises(WeightsError, match="one part of a checkpoint in several"):
        read_fitting(path, fresh().state_dict())
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"0.weight": path.name}}))
    with pytest.raises(WeightsError, match="is the index of a checkpoint in several files"):
        read_tensors(index)


# --- files of other kinds


class Planted:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("wrap", [lambda o: o, lambda o: {"state_dict": WEIGHTS, "hyper_parameters": o}])
def test_no_code_in_a_file_is_executed(wrap: Callable[[Any], Any], old: bool, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    path = written(tmp_path / "planted.ckpt", wrap(Planted(marker)), _use_new_zipfile_serialization=not old)
    with pytest.raises(WeightsError, match=r"objects? of (pathlib|__builtin__\.getattr)"):
        read_tensors(path)
    (tmp_path / "planted.pkl").write_bytes(pickle.dumps(wrap(Planted(marker))))
    with pytest.raises(WeightsError, match=r"is a pickle, not a file of torch\.save"):
        read_tensors(tmp_path / "planted.pkl")
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the code would have run
    assert marker.exists()


def test_a_damaged_class_name_stays_on_its_line(tmp_path: Path) -> None:
    damaged = pickle.dumps(WEIGHTS).replace(b"torch._utils", b"\r\nrch._utils")
    (tmp_path / "weights.pkl").write_bytes(damaged)
    with pytest.raises(WeightsError, match=r"with objects of \\r\\nrch\._utils") as refused:
        read_tensors(tmp_path / "weights.pkl")
    assert len(str(refused.value).splitlines()) == 1


def save_script(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(fresh(), torch.zeros(1, 3, 8, 8)), str(path))


def save_keras(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            archive.writestr(name, b"")


def save_joblib(path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    joblib.dump(LogisticRegression(), path)


def save_quantized(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save({"w": torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8)}, path)


SETTINGS = {"state_dict": WEIGHTS, "hyper_parameters": argparse.Namespace(lr=0.1)}
REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a whole network": (
        lambda p: torch.save(fresh(), p),
        r"one object of torch\.nn\.modules\.container\.Sequential, .*executes no code.*state_dict\(\).*torch\.export",
    ),
    "an old whole network": (
        lambda p: torch.save(fresh(), p, _use_new_zipfile_serialization=False),
        r"one object of torch\.nn\.modules\.container\.Sequential",
    ),
    "settings": (
        lambda p: torch.save(SETTINGS, p),
        r"objects of argparse\.Namespace in addition .*save its state",
    ),
    "NumPy's numbers": (lambda p: torch.save({"state_dict": WEIGHTS, "auc": np.float64(0.5)}, p), "multiarray.scalar"),
    "another protocol": (lambda p: torch.save(WEIGHTS, p, pickle_protocol=4), "its pickle protocol is 4 or later"),
    "TorchScript": (save_script, r"is a TorchScript program .*torch\.jit\.load\(FILE\)\.state_dict\(\).*torch\.export"),
    "HDF5": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "an HDF5 file, such as Keras writes; .*ONNX"),
    "Keras": (save_keras, "is a Keras archive; .*ONNX"),
    "joblib": (save_joblib, r"is a pickle, not a file of torch\.save with objects of sklearn\..*LogisticRegression"),
    "compressed": (lambda p: joblib.dump([1], p, compress=3), "is a compressed file"),
    "NumPy": (lambda p: p.write_bytes(b"\x93NUMPY\x01\x00" + bytes(99)), "is a NumPy array"),
    "npz": (lambda p: np.savez(p.open("wb"), a=np.ones(2)), "an archive of files, but none of torch.save"),
    "Git LFS": (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\n"), "a Git LFS pointer"),
    "a web page": (lambda p: p.write_text("<!DOCTYPE html>\n<title>Quota"), "is a web page.*download the file again"),
    "nothing": (lambda p: p.write_bytes(b""), "is an empty file"),
    "a list": (lambda p: torch.save([torch.ones(2)], p), "holds a list; expected a state_dict"),
    "numbers": (lambda p: torch.save({"epoch": 3, "loss": torch.tensor(0.5)}, p), "holds no tensors by name"),
    "quantized": (save_quantized, r"quantized weights \(w, qint8\).*before quantization"),
    "trained for quantization": (
        lambda p: torch.save(WEIGHTS | {"0.weight_fake_quant.scale": torch.ones(1)}, p),
        r"quantized weights \(0.weight_fake_quant.scale",
    ),
    "8-bit weights": (lambda p: torch.save({"w.weight": torch.ones(2, 2).to(torch.int8)}, p), "quantized weights"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_other_files_are_refused_by_name(form: str, tmp_path: Path) -> None:
    write, message = REFUSED[form]
    path = tmp_path / "weights.pt"
    write(path)
    with pytest.raises(WeightsError, match=f"weights.pt .*{message}") as found:
        read_tensors(path)
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 500 + len(str(path))


def test_an_onnx_file_is_named(tmp_path: Path) -> None:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(fresh(), (torch.zeros(1, 3, 8, 8),), file, dynamo=False)
    (tmp_path / "network.pt").write_bytes(file.getvalue())
    with pytest.raises(WeightsError, match=r"network.pt is an ONNX file; .*kind='onnx'"):
        read_tensors(tmp_path / "network.pt")


def test_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot be read .*name a file of weights"):
        read_tensors(tmp_path)


def test_a_file_cut_or_damaged_in_its_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(WEIGHTS, path)
    sound = path.read_bytes()
    central = sound.index(b"PK\x01\x02")
    for content in (b"\x80", b"\x80\x02", sound[:4], sound[: central + 9], bytes(257) + b"ustar" + bytes(9)):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"weights\.pt "):
            read_tensors(path)
    path.write_bytes(sound[: central + 6] + b"\xff" + sound[central + 7 :])  # a version of ZIP that is ignored
    assert read_tensors(path).keys() == WEIGHTS.keys()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda weight: weight + 0j, r"complex64 \(strided\)"),
        (lambda weight: (weight * 9).long(), r"int64 \(strided\)"),
        (lambda weight: weight.to_sparse(), r"float32 \(sparse_coo\)"),
        (lambda weight: weight.to("meta"), r"float32 \(on meta, without values\)"),
    ],
)
def test_weights_that_are_no_dense_floats_are_named(
    change: Callable[[Tensor], Tensor], words: str, tmp_path: Path
) -> None:
    name = next(name for name, tensor in WEIGHTS.items() if tensor.ndim == 4)
    path = written(tmp_path / "net.pt", WEIGHTS | {name: change(WEIGHTS[name])})
    with pytest.raises(WeightsError, match=rf"{name} is {words}; expected dense floats: save the weights in floating"):
        read_fitting(path, fresh().state_dict())
