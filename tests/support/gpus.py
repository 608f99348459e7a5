"""A machine that pretends to have two GPUs."""

from pathlib import Path

import pytest

UUIDS = ["GPU-aaaaaaaa-0000", "GPU-bbbbbbbb-1111"]


def pretend_gpus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine's nvidia-smi list two GPUs."""
    lines = [f"GPU {i}: NVIDIA L4 (UUID: {uuid})" for i, uuid in enumerate(UUIDS)]
    fake = folder / "nvidia-smi"
    fake.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
