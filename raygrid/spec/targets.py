"""Classifiers that raygrid did not train: what each takes, what its answers mean.

A target needs no gradients: raygrid shows it images and reads its answers, as an attacker's victim would. Where there
are gradients, of a network in a file, it can be attacked through as well.
"""

import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from raygrid.errors import SpecError, unknown_name
from raygrid.spec._require import require
from raygrid.spec.models import SurrogateKind
from raygrid.spec.serialization import ABSENT_BY_DEFAULT

TARGET_KINDS = (
    "checkpoint",  # a PyTorch network: a factory function and a file of its weights
    "export",  # a torch.export program, a .pt2 file
    "onnx",  # run by onnxruntime
    "callable",  # a Python function, array of images -> array of answers
    "http",  # an endpoint that is asked with image files or arrays
)
ANSWERS = ("logit", "probability")
RECEIVED = ("exact", "png", "dicom", "jpeg:<quality>")
WITH_GRADIENTS = ("checkpoint", "export")
EXTERNAL = "external"  # the kind of such a target, or surrogate, in the AUC frame

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_FUNCTION = re.compile(r"[\w.]+:\w+")
_JPEG = re.compile(r"jpeg:(\d{1,3})")


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The images that a target takes; raygrid's own, of range [-1, 1], are converted to them.

    An endpoint that is sent PNG, JPEG or DICOM files gets them of `size` and `channels`; what follows is its own work.

    A pixel is scaled from black..white to `black`..`white`, then (value - mean) / std, channel by channel.

    Attributes:
        size: height and width, pixels; 0 takes images of the study's size.
        channels: 1 or 3; 0 takes the study's. Grey images are repeated for 3; colours become luminance for 1.
        black, white: values of a black and of a white pixel, such as 0 and 255.
        mean, std: in the units of `black` and `white`, red, green, blue (also with `bgr`); one for all, or none.
        bgr: blue first.
        channels_last: (batch, height, width, channel) instead of (batch, channel, height, width).
        dtype: of the array; `uint8` rounds.
    """

    size: int = 0
    channels: int = 0
    black: float = 0.0
    white: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    bgr: bool = False
    channels_last: bool = False
    dtype: Literal["float32", "uint8"] = "float32"

    def __post_init__(self) -> None:
        require(self.size >= 0, f"size is {self.size}; expected pixels, or 0 for the study's")
        require(self.channels in (0, 1, 3), f"channels is {self.channels}; expected 1, 3, or 0 for the study's")
        require(self.black != self.white, f"black and white are both {self.black}; no image could be seen")
        require(len(self.mean) == len(self.std), "mean and std must have as many values, one per channel")
        require(
            len(self.mean) in (0, 1, 3), f"mean has {len(self.mean)} values; expected one, one per channel, or none"
        )
        require(not (self.channels == 1 and len(self.mean) == 3), "mean and std have 3 values for 1 channel")
        require(all(value > 0 for value in self.std), f"std is {self.std}; expected values above 0")
        require(not (self.bgr and self.channels == 1), "bgr needs three channels")
        require(self.dtype in ("float32", "uint8"), unknown_name("dtype", self.dtype, ("float32", "uint8")))
        require(
            not (self.dtype == "uint8" and (self.mean or (self.black, self.white) != (0.0, 255.0))),
            "dtype uint8 takes pixels as they are: black=0, white=255, no mean and std",
        )


@dataclass(frozen=True, kw_only=True)
class AnswerSpec:
    """What a target's answers mean.

    Attributes:
        kind: name in `ANSWERS`.
        labels: what each output stands for, in order: a label of the study, or "" for one that is passed over. Empty:
            the study's labels in their order.
        exclusive: the outputs are classes of which one is right (a softmax), not findings that stand each alone. The
            logit of a label is then its class against all others.
    """

    kind: Literal["logit", "probability"] = "logit"
    labels: tuple[str, ...] = ()
    exclusive: bool = False

    def __post_init__(self) -> None:
        require(self.kind in ANSWERS, unknown_name("kind of answer", self.kind, ANSWERS))
        named = [label for label in self.labels if label]
        require(not self.labels or bool(named), "labels names no label of the study, so nothing could be scored")
        require(len(set(named)) == len(named), f"labels names one twice: {named}")
        require(not self.exclusive or len(self.labels) >= 2, "exclusive needs labels with two outputs or more")


@dataclass(frozen=True, kw_only=True)
class EndpointSpec:
    """How an HTTP endpoint may be asked. None of it but `version` changes an answer.

    Attributes:
        version: of the model behind the endpoint, as far as you know it; another one is asked anew.
        batch_size: images per request.
        requests_per_second: at most, over all workers of a node.
        timeout_s: of a request.
        retries: of a request that fails in a way that may pass.
        token_variable: environment variable with a bearer token; the token itself never stands in a study.
        max_images: images that may be sent in all, over every run of the study; 0 is no limit. The surrogates and
            attacks that say most come first.
    """

    version: str = ""
    batch_size: int = 8
    requests_per_second: float = 2.0
    timeout_s: float = 30.0
    retries: int = 4
    token_variable: str = ""
    max_images: int = 0

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, f"batch_size is {self.batch_size}; expected at least 1")
        require(self.requests_per_second > 0, f"requests_per_second is {self.requests_per_second}; expected above 0")
        require(self.timeout_s > 0, f"timeout_s is {self.timeout_s}; expected above 0")
        require(self.retries >= 0, f"retries is {self.retries}; expected 0 or more")
        require(self.max_images >= 0, f"max_images is {self.max_images}; expected 0 for no limit, or more")


@dataclass(frozen=True, kw_only=True)
class TargetSpec:
    """A classifier that raygrid did not train: a target of every surrogate of its modality, and on demand one itself.

    Attributes:
        label: its name, unique within the modality.
        kind: name in `TARGET_KINDS`.
        source: `package.module:function` for a checkpoint (a factory that returns the network) or a callable, a file
            for `export` and `onnx`, a URL for `http`.
        weights: file of a checkpoint's weights, .safetensors or a state_dict that loads without running code.
        received: how an image reaches the target: `exact`, or through an 8-bit `png` or `dicom` file, or a `jpeg:90`.
            Where it is a file, attacked images are rounded to whole grey levels towards the clean image first.
        input, answer: what it takes, what it says.
        endpoint: for `http`.
        attacked_through: whether its network is a surrogate, too, of a kind in `WITH_GRADIENTS`. Against itself it is
            a white-box reference: what an attacker does who has it.
    """

    modality: str
    label: str
    kind: str
    source: str
    weights: str = ""
    received: str = "exact"
    input: InputSpec = field(default_factory=InputSpec)
    answer: AnswerSpec = field(default_factory=AnswerSpec)
    endpoint: EndpointSpec = field(default_factory=EndpointSpec)
    attacked_through: bool = field(default=False, metadata=ABSENT_BY_DEFAULT)
    surrogate_kind: ClassVar[SurrogateKind] = "external"

    def __post_init__(self) -> None:
        who = f"target {self.label!r}"
        require(bool(_NAME.fullmatch(self.label)), f"target label {self.label!r} must match {_NAME.pattern}")
        require(self.kind in TARGET_KINDS, unknown_name("kind of target", self.kind, TARGET_KINDS))
        if self.kind in ("checkpoint", "callable"):
            require(
                bool(_FUNCTION.fullmatch(self.source)),
                f"{who}: source is {self.source!r}; expected package.module:function",
            )
        if self.kind == "http":
            require(
                self.source.startswith(("http://", "https://")), f"{who}: source is {self.source!r}; expected a URL"
            )
            require("@" not in self.source, f"{who}: the URL holds credentials; name token_variable instead")
            require(
                self.received == "exact" or self.input == InputSpec(size=self.input.size, channels=self.input.channels),
                f"{who}: the endpoint is sent files and scales the pixels in them itself; of input, set size and "
                "channels only",
            )
        require(
            bool(self.weights) == (self.kind == "checkpoint"),
            f"{who}: a checkpoint needs a file of weights, other kinds have none",
        )
        require(
            not self.attacked_through or (self.kind in WITH_GRADIENTS and self.input.dtype == "float32"),
            f"{who} of kind {self.kind} and dtype {self.input.dtype} has no gradients, so it cannot be "
            f"attacked_through; that needs {' or '.join(WITH_GRADIENTS)} and float32",
        )
        self.jpeg_quality  # noqa: B018  raises for a quality that is none

    @property
    def name(self) -> str:
        """Readable name, unique within the modality."""
        return f"{EXTERNAL}-{self.label}"

    @property
    def network(self) -> tuple[str, str, str]:
        """What answers, whatever is declared of its images and answers."""
        return (self.kind, self.source, self.weights)

    @property
    def surrogate_key(self) -> str:
        """Name of its network as a surrogate, while both are open; the target has the name alone."""
        return f"surrogate {self.name}"

    @property
    def in_levels(self) -> bool:
        """Whether only whole grey levels can reach the target: through a file, or as an array of bytes."""
        return self.received != "exact" or self.input.dtype == "uint8"

    @property
    def jpeg_quality(self) -> int | None:
        """Quality, 1 to 100, of the JPEG the target receives; None where it receives none.

        Raises SpecError if `received` names no known way.
        """
        if self.received in ("exact", "png", "dicom"):
            return None
        found = _JPEG.fullmatch(self.received)
        if found is None or not 1 <= int(found[1]) <= 100:
            raise SpecError(unknown_name("way to receive an image", self.received, RECEIVED))
        return int(found[1])
