"""PyTorch's numerical settings for this process, set by the study and not by the machine."""

import os

import torch


def set_numerics(*, threads: int, precision: str = "float32") -> None:
    """Set the CPU threads of an operator, the precision of products, and repeatable convolutions on a GPU.

    Args:
        threads: a result depends on their number, which decides how sums are divided.
        precision: name in `raygrid.spec.PRECISIONS`; only `tf32` permits TensorFloat-32, PyTorch's default for
            convolutions. The code that needs autocast switches it on.
    """
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS sums in one order only with a fixed workspace
