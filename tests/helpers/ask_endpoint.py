"""Ask an endpoint batch after batch, in a process that a test can kill: URL, folder of answers, number of batches."""

import sys
from pathlib import Path

import torch

from raygrid.spec import EndpointSpec, TargetSpec
from raygrid.targets import open_target

BATCH, SIZE = 4, 8


def batch_of(number: int) -> torch.Tensor:
    """Return images of one batch; the last of each comes again as the first of the next."""
    levels = torch.arange(BATCH).view(-1, 1, 1, 1) + number * (BATCH - 1)
    return (levels * 5.0 / 127.5 - 1).expand(BATCH, 1, SIZE, SIZE)


if __name__ == "__main__":
    url, folder, num_batches = sys.argv[1:]
    declared = EndpointSpec(batch_size=2, requests_per_second=10_000)
    spec = TargetSpec(modality="toy", label="clinic", kind="http", source=url, received="png", endpoint=declared)
    asked = open_target(spec, labels=("finding",), channels=1, image_size=SIZE, answers_dir=Path(folder))
    print([asked(batch_of(number)).tolist() for number in range(int(num_batches))])
