"""A trained adapter's folder: plain PEFT reads it, and it names no place on this machine."""

import json
from pathlib import Path

import peft

from stages.config.paths import OFFSET_FILE
from stages.training.fold import Trained

CARD = """\
---
base_model: {quoted}
base_model_relation: adapter
library_name: peft
---

# An adapter for {base}

It predicts which of two answers a person prefers. Its base is {base}, revision {revision}.
It was saved by PEFT {version}.
"""


def save(trained: Trained, base: str, revision: str, folder: Path) -> None:
    """Write an adapter, its head, the tokenizer, the offset if there is one, and a card.

    Args:
        base: what others have the base by, such as its id on the hub.
        revision: which base of that name it is.
    """
    config = trained.model.active_peft_config
    config.base_model_name_or_path, config.revision = base, revision
    # "auto" would ask the hub for the base; no training changes its embeddings.
    trained.model.save_pretrained(folder, save_embedding_layers=False)
    trained.tokenizer.save_pretrained(folder)
    if trained.offset:
        trained.offset.save(folder / OFFSET_FILE)
    else:
        (folder / OFFSET_FILE).unlink(missing_ok=True)  # of a run that DVC did not start
    card = CARD.format(
        base=base, quoted=json.dumps(base), revision=revision, version=peft.__version__
    )
    (folder / "README.md").write_text(card, encoding="utf-8")  # PEFT's holds blanks to fill in
