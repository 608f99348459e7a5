"""An export loaded again by transformers alone, in a fresh process, and what it says there.

The code that loads it is what the model card tells its readers to run.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import BitsAndBytesConfig

from stages.config.errors import UserError
from stages.deployment.source import Source
from stages.model import stock

FACTOR = 5.0  # as far from float32 as bfloat16, five times, is still rounding; as for the gates
READ = """
import json, sys
given = json.load(sys.stdin)
assert [tokenizer.decode(ids) for ids in given["ids"]] == given["texts"], "another tokenizer"
model.eval()
for module in model.modules():  # some CPUs would have weights repacked, which may be too narrow
    module.support_avx512bf16_for_cpu = False
rows = []
with torch.no_grad():
    for ids in given["ids"]:
        logits = model(input_ids=torch.tensor([ids], device=model.device)).logits[0]
        rows.append(logits if given["answers"] is None else logits[-1, given["answers"]])
print(json.dumps(torch.stack(rows).float().tolist()))
"""


@dataclass(frozen=True)
class Agreement:
    """How far an export's logits are from those that they should be.

    Attributes:
        mean, largest: the distances.
        limit: what rounding to bfloat16 explains.
    """

    texts: int
    mean: float
    largest: float
    limit: float


def loading_code(source: Source, merged: bool) -> str:
    """Python that loads an export as `model` and `tokenizer`, from FOLDER and, if need be, BASE.

    Attention is eager: other kernels drop what some architectures do to its scores.
    """
    auto = "CausalLM" if source.params.train.objective == "sft" else "SequenceClassification"
    auto = f"AutoModelFor{auto}"
    usual = 'dtype=torch.bfloat16, attn_implementation="eager", device_map=device'
    start = [
        "import torch",
        "" if merged else "from peft import PeftModel",
        f"from transformers import {auto}, AutoTokenizer, BitsAndBytesConfig",
        'device = "cuda" if torch.cuda.is_available() else "cpu"',
        "tokenizer = AutoTokenizer.from_pretrained(FOLDER)",
    ]
    if merged:
        start[2] = start[2].removesuffix(", BitsAndBytesConfig")
        rest = [f"model = {auto}.from_pretrained(FOLDER, {usual})"]
    else:
        heads = source.compute.objective.outputs
        labels = "" if auto == "AutoModelForCausalLM" else f", num_labels={heads}"
        quantization = stock.quantization(
            source.kind, source.config, source.params.train, torch.bfloat16
        )
        rest = [
            f"quantization = {_written(quantization)}",
            f"base = {auto}.from_pretrained(BASE, revision=REVISION, {usual}, "
            f"quantization_config=quantization{labels})",
            "model = PeftModel.from_pretrained(base, FOLDER)",
        ]
    return "\n".join(line for line in [*start, *rest] if line)


def _written(quantization: object) -> str:
    """A quantisation as Python."""
    if not isinstance(quantization, BitsAndBytesConfig):
        return "None"
    return (
        f'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="'
        f'{quantization.bnb_4bit_quant_type}", bnb_4bit_use_double_quant='
        f"{quantization.bnb_4bit_use_double_quant}, bnb_4bit_compute_dtype=torch.bfloat16, "
        f"llm_int8_skip_modules={quantization.llm_int8_skip_modules})"
    )


def reload(source: Source, folder: Path, texts: list[list[int]], merged: bool) -> Tensor:
    """What an export says of each text in a process without this project: (texts, outputs).

    Raises:
        UserError: transformers cannot load it.
    """
    places = f"FOLDER, BASE = {str(folder.absolute())!r}, {str(source.weights.absolute())!r}\n"
    places += 'REVISION = "main"\n'
    given = {
        "ids": texts,
        "texts": [source.tokenizer.decode(ids) for ids in texts],
        "answers": source.compute.objective.answers,
    }
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            [sys.executable, "-I", "-c", places + loading_code(source, merged) + READ],
            input=json.dumps(given),
            cwd=elsewhere,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise UserError(
            "the export cannot be loaded by transformers alone, so that it is removed: "
            f"{done.stderr.strip().splitlines()[-1]}"
        )
    return torch.tensor(json.loads(done.stdout.splitlines()[-1]))


def agreement(found: Tensor, exact: Tensor, half: Tensor) -> Agreement:
    """How far an export's outputs are from the run's, in units of logits.

    Args:
        found: (texts, outputs) of the export, which may have fewer outputs than the run.
        exact, half: those of the run's own model in float32 and in bfloat16.
    """
    exact, half = (each[:, : found.shape[1]] for each in (exact, half))
    rounding = max(_off(half, exact).max(), torch.finfo(torch.bfloat16).eps * exact.abs().max())
    off = _off(found, exact)
    return Agreement(len(found), off.mean().item(), off.max().item(), FACTOR * float(rounding))


def _off(found: Tensor, expected: Tensor) -> Tensor:
    return (found - expected).abs()


def require(agreed: Agreement) -> None:
    """Raise a UserError if more than rounding lies between an export and the run."""
    if not agreed.largest <= agreed.limit:  # nor if it is undefined
        raise UserError(
            "the export was loaded again by transformers alone, and its logits are up to "
            f"{agreed.largest:.3g} from those that the run's model has on the same texts, where "
            f"bfloat16 explains {agreed.limit:.3g}. So it is not the same model, and is removed. "
            "`python -m stages.predict --model models/refit` serves it. Export with or without "
            "--merged, or take another backbone"
        )
