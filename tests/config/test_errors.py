"""What went wrong is told in words, also where PyTorch has no memory left."""

import pytest
import torch

from stages.config.errors import UserError, stage

KINDS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 520.00 MiB."),
    RuntimeError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


def ended(main, capsys) -> str:
    """What a stage whose main fails in words says."""
    with pytest.raises(SystemExit) as exit:
        stage(main)()
    assert exit.value.code == 1
    return capsys.readouterr().err


def test_what_the_user_can_mend_is_told(capsys):
    def main():
        raise UserError("expected this, found that")

    assert ended(main, capsys) == "error: expected this, found that\n"


@pytest.mark.parametrize("error", KINDS, ids=["pytorch", "cuda", "cublas"])
def test_memory_that_ran_out_is_told_whatever_kind_of_error_it_is(error, capsys):
    def main():
        raise error

    told = ended(main, capsys)
    assert told.startswith("error: expected room in memory, found none (CUDA")
    assert "lower the scale's max_tokens" in told and told.count("\n") == 1


def test_the_cpu_has_its_own_words_for_that(capsys):
    assert "found none" in ended(lambda: torch.empty(2**60), capsys)


def test_ctrl_c_is_no_fault(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as exit:
        stage(main)()
    assert exit.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_what_nobody_expected_keeps_its_traceback():
    def main():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        stage(main)()
