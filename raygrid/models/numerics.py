"""How PyTorch computes in this process: what the study says, not what the machine prefers."""

import os

import torch


def set_numerics(*, threads: int, precision: str = "float32") -> None:
    """Fix the CPU threads of an operator, the precision of products, and repeatable convolutions on a GPU.

    Args:
        threads: they divide sums differently, so a result depends on them.
        precision: name in `raygrid.spec.PRECISIONS`; only `tf32` permits TensorFloat-32, which PyTorch would use for
            convolutions unasked. Autocast is switched on where it is used.
    """
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS sums in one order only with a fixed workspace
