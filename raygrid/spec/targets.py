"""Classifiers that raygrid did not train: the images that each takes and the meaning of its answers.

A target needs no gradients: raygrid sends it images and reads its answers, as an attacker does with a victim. If its
kind has gradients, it can serve as a surrogate as well.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from raygrid.errors import SpecError, unknown_name
from raygrid.spec._require import require
from raygrid.spec.models import SurrogateKind
from raygrid.spec.serialization import ABSENT_BY_DEFAULT


@dataclass(frozen=True)
class SourceForm:
    """A form of `TargetSpec.source`: the pattern that it matches, and its description for messages."""

    pattern: re.Pattern[str]
    words: str


FUNCTION = SourceForm(re.compile(r"[\w.]+:\w+"), "package.module:function")
FILE = SourceForm(re.compile(r".*", re.DOTALL), "an absolute path")  # checked when the file is read, not here
URL = SourceForm(re.compile(r"https?://.*", re.DOTALL), "a URL")


@dataclass(frozen=True, kw_only=True)
class TargetKind:
    """The properties of one kind of target. The class of the same kind in `raygrid.targets.backends` opens it.

    Attributes:
        words: noun phrase for pages and messages.
        source: form of `TargetSpec.source`. The module of a function, or the file, is part of the target's identity.
        needs_weights: whether `TargetSpec.weights` names a second file.
        has_data_files: whether the file may name further files beside it, which hold tensors.
        is_bare_network: whether it is only a network, which also accepts pixel values outside the declared range.
        has_gradients: whether it can be a surrogate.
        is_metered: whether its requests cost something: `EndpointSpec` limits them, and every answer is kept.
    """

    words: str
    source: SourceForm
    needs_weights: bool = False
    has_data_files: bool = False
    is_bare_network: bool = False
    has_gradients: bool = False
    is_metered: bool = False


TARGET_KINDS: Mapping[str, TargetKind] = {
    "checkpoint": TargetKind(
        words="a PyTorch network from a file of weights",
        source=FUNCTION,  # a factory that returns the network
        needs_weights=True,
        is_bare_network=True,
        has_gradients=True,
    ),
    "export": TargetKind(words="a program of torch.export", source=FILE, is_bare_network=True, has_gradients=True),
    "onnx": TargetKind(words="an ONNX file", source=FILE, is_bare_network=True, has_data_files=True),
    "callable": TargetKind(words="a Python function", source=FUNCTION),  # array of images -> array of answers
    "http": TargetKind(words="an HTTP endpoint", source=URL, is_metered=True),
}
ANSWERS = ("logit", "probability", "decision")
RECEIVED = ("exact", "png", "dicom", "jpeg:<quality>")
EXTERNAL = "external"  # the kind of such a target, or surrogate, in the AUC frame

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_JPEG = re.compile(r"jpeg:(\d{1,3})")


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The images that a target takes. raygrid converts its own images, of range [-1, 1], to this form.

    Each pixel is scaled to the range from `black` to `white`, then normalized to (value - mean) / std by channel.
    Files for an endpoint (PNG, JPEG, DICOM) have `size` and `channels` only; the endpoint scales the pixels itself.

    Attributes:
        size: height and width in pixels; 0 is the study's size.
        channels: 1 or 3; 0 is the study's number. Grey images are repeated for 3; colours become luminance for 1.
        black: value of a black pixel.
        white: value of a white pixel, such as 1 or 255; not that of a black one.
        mean: subtracted from a pixel, in units of `black` and `white`: one value for all channels, or one per channel
            in the order red, green, blue (also with `bgr`). Empty: no normalization.
        std: divides the difference, in the same units and order as `mean`; above 0.
        bgr: put the channels in the order blue, green, red; needs 3 channels.
        channels_last: use (batch, height, width, channel) instead of (batch, channel, height, width).
        dtype: of the array, `float32` or `uint8`. `uint8` rounds, and needs black=0, white=255 and no mean.

    Raises SpecError if a value is out of its range, or two values contradict each other.
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
        require(self.black != self.white, f"black and white are both {self.black}; expected two values")
        require(len(self.mean) == len(self.std), "mean and std must have as many values, one per channel")
        require(
            len(self.mean) in (0, 1, 3), f"mean has {len(self.mean)} values; expected one, one per channel, or none"
        )
        require(
            not (self.channels == 1 and len(self.mean) == 3),
            "mean and std have 3 values for 1 channel; give one value each",
        )
        require(all(value > 0 for value in self.std), f"std is {self.std}; expected values above 0")
        require(not (self.bgr and self.channels == 1), "bgr needs three channels; set channels=3, or remove bgr")
        require(self.dtype in ("float32", "uint8"), unknown_name("dtype", self.dtype, ("float32", "uint8")))
        require(
            not (self.dtype == "uint8" and (self.mean or (self.black, self.white) != (0.0, 255.0))),
            "dtype uint8 takes whole grey levels; set black=0 and white=255, without mean and std",
        )


@dataclass(frozen=True, kw_only=True)
class AnswerSpec:
    """The meaning of a target's answers.

    Attributes:
        kind: `logit`, `probability`, or `decision`: the label alone, 0 or 1 for each output, without a score.
        labels: the label of each output, in order: a label of the study, or "" for an output that raygrid ignores.
            Empty: the study's labels in their order.
        exclusive: the outputs are classes of which one is right (a softmax), not independent findings. The logit of a
            label is then its class against all others. Needs two labels or more. An exclusive `decision` is one whole
            number, the place of a class in `labels`, from 0.

    Raises SpecError if the kind is unknown, or the labels are empty names or have one twice.
    """

    kind: Literal["logit", "probability", "decision"] = "logit"
    labels: tuple[str, ...] = ()
    exclusive: bool = False

    def __post_init__(self) -> None:
        require(self.kind in ANSWERS, unknown_name("kind of answer", self.kind, ANSWERS))
        named = [label for label in self.labels if label]
        require(not self.labels or bool(named), "labels has no name; name at least one label of the study")
        require(len(set(named)) == len(named), f"labels has a name twice: {named}")
        require(not self.exclusive or len(self.labels) >= 2, "exclusive needs two labels or more; name all outputs")

    def num_outputs(self, labels: Sequence[str]) -> int:
        """Return the number of values in the answer to one image; `labels` are those of the study."""
        return 1 if self.kind == "decision" and self.exclusive else len(self.labels or labels)


@dataclass(frozen=True, kw_only=True)
class EndpointSpec:
    """Limits of the requests to an HTTP endpoint. Only `version` can change an answer.

    Attributes:
        version: of the model behind the endpoint, if you know it. A new version is queried from the start.
        batch_size: images per request, at least 1.
        requests_per_second: maximum over all workers of a node, above 0.
        timeout_s: seconds until a request counts as failed, above 0.
        retries: further attempts after a temporary failure, at least 0.
        token_variable: environment variable that holds a bearer token. A study never holds the token itself.
        max_images: images sent in total, over every run of the study; 0 is no limit. The strongest attacks come first.

    Raises SpecError if a value is out of its range.
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
    """A classifier that raygrid did not train: a target of every surrogate of its modality, and on demand a surrogate.

    Attributes:
        modality: name of a modality of the study.
        label: its name, unique within the modality: small letters, digits and underscores, a letter first.
        kind: `checkpoint`, `export`, `onnx`, `callable` or `http` (`TARGET_KINDS`).
        source: `package.module:function` for `checkpoint` (a factory that returns the network) and `callable`, a file
            for `export` and `onnx`, a URL for `http`.
        weights: file of a checkpoint's weights: .safetensors, or a state_dict that loads without running code. Empty
            for other kinds.
        weights_entry: the set of weights in that file, if it holds several, such as `model_ema` beside `model`.
        received: the form in which the target receives an image: `exact`, or an 8-bit file: `png`, `dicom`, or `jpeg:`
            with a quality from 1 to 100, as in `jpeg:90`. For files, raygrid first rounds attacked images to whole
            grey levels, towards the clean image.
        input: the images that it takes.
        answer: the meaning of its answers.
        endpoint: limits of the requests to an `http` target.
        attacked_through: whether its network is a surrogate as well; the kind must have gradients. Against itself it is
            the white-box reference, an attacker who has the target.

    Raises SpecError if a name is unknown, or a value does not fit the kind.
    """

    modality: str
    label: str
    kind: str
    source: str
    weights: str = ""
    weights_entry: str = field(default="", metadata=ABSENT_BY_DEFAULT)
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
        form = self.traits.source
        require(bool(form.pattern.fullmatch(self.source)), f"{who}: source is {self.source!r}; expected {form.words}")
        if form is URL:
            require("@" not in self.source, f"{who}: the URL holds credentials; remove them and set token_variable")
            require(
                self.received == "exact" or self.input == InputSpec(size=self.input.size, channels=self.input.channels),
                f"{who}: the endpoint receives files and scales their pixels itself; of input, set size and channels "
                "only",
            )
        expected = "a file" if self.traits.needs_weights else "none"
        require(
            bool(self.weights) == self.traits.needs_weights,
            f"{who}: weights is {self.weights!r}; expected {expected} for kind {self.kind!r}",
        )
        require(
            self.traits.needs_weights or not self.weights_entry,
            f"{who}: weights_entry is {self.weights_entry!r}, but kind {self.kind!r} has no file of weights; remove it",
        )
        require(
            not self.attacked_through or self.answer.kind != "decision",
            f"{who} answers with decisions, which have no gradients, but attacked_through needs them; declare its "
            "logits or probabilities, or remove attacked_through",
        )
        require(
            not self.attacked_through or (self.traits.has_gradients and self.input.dtype == "float32"),
            f"{who} of kind {self.kind} and dtype {self.input.dtype} has no gradients, but attacked_through needs "
            f"them; use {' or '.join(_kinds_with_gradients())} with float32, or remove attacked_through",
        )
        self.jpeg_quality  # noqa: B018  raises SpecError for an unknown `received`

    @property
    def traits(self) -> TargetKind:
        """The properties of its kind."""
        return TARGET_KINDS[self.kind]

    @property
    def name(self) -> str:
        """Readable name, unique within the modality."""
        return f"{EXTERNAL}-{self.label}"

    @property
    def network(self) -> tuple[str, str, str, str]:
        """The network that answers. Two targets can share it and differ in images and answers."""
        return (self.kind, self.source, self.weights, self.weights_entry)

    @property
    def surrogate_key(self) -> str:
        """Key of its network as a surrogate among the open networks; as a target its key is `name`."""
        return f"surrogate {self.name}"

    @property
    def answers_decisions(self) -> bool:
        """Whether it answers with decisions at its own threshold, without scores."""
        return self.answer.kind == "decision"

    @property
    def in_levels(self) -> bool:
        """Whether the target receives whole grey levels only: from a file, or in an array of bytes."""
        return self.received != "exact" or self.input.dtype == "uint8"

    @property
    def jpeg_quality(self) -> int | None:
        """Quality, 1 to 100, of the JPEG that the target receives; None for other forms.

        Raises SpecError if `received` is unknown.
        """
        if self.received in ("exact", "png", "dicom"):
            return None
        found = _JPEG.fullmatch(self.received)
        if found is None or not 1 <= int(found[1]) <= 100:
            raise SpecError(unknown_name("value of received", self.received, RECEIVED))
        return int(found[1])


def _kinds_with_gradients() -> list[str]:
    return [name for name, kind in TARGET_KINDS.items() if kind.has_gradients]
