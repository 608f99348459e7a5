"""What is here of a checkpoint before it is fetched: its configuration, tokenizer and weights."""

import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from stages.config.params import Checkpoint, Hub, Package, Params
from stages.config.root import root, state
from stages.planning.published import configuration, shape_of


@dataclass(frozen=True)
class Here:
    """A checkpoint, as far as it is here.

    Attributes:
        name: what reports call it.
        folder: of its small files; None if there are none.
        weights: whether its weights are here, too.
        shape: whose published shape it has, if only that is known.
    """

    name: str
    folder: Path | None
    weights: bool
    shape: str | None = None

    @property
    def tokenizer(self) -> Path | None:
        """The folder of its tokenizer."""
        there = self.folder and any(self.folder.glob("tokenizer*"))
        return self.folder if there else None


def find(checkpoint: Checkpoint) -> Here:
    """Look for a checkpoint: where runs keep it, in the hub's cache, among the published shapes."""
    name, folder = _name(checkpoint), _folder(checkpoint)
    if folder is None:
        return Here(name, None, False, shape_of(name))
    weights = any(folder.glob("model*.safetensors")) and folder.suffix != ".partial"
    return Here(name, folder, weights)


def _name(checkpoint: Checkpoint) -> str:
    source = checkpoint.source
    if isinstance(source, Hub):
        return source.id
    if isinstance(source, Package):
        return checkpoint.name or source.gguf.partition(".gguf")[0]
    return checkpoint.name or Path(source).name


def _folder(checkpoint: Checkpoint) -> Path | None:
    source = checkpoint.source
    if isinstance(source, str):
        given = root() / Path(source).expanduser()
        return given if (given / "config.json").exists() else None
    revision = source.sha256[:12] if isinstance(source, Package) else ""
    kept = re.sub(r"[^\w.-]+", "--", f"{_name(checkpoint)}-{revision}")
    found = sorted(
        (state() / "weights").glob(f"{kept}*/config.json"), key=lambda p: p.stat().st_mtime
    )
    if found:
        return found[-1].parent
    cached = isinstance(source, Hub) and try_to_load_from_cache(source.id, "config.json")
    return Path(cached).parent if isinstance(cached, str) else None


def any_tokenizer(params: Params) -> tuple[str, Path] | None:
    """Another checkpoint's tokenizer that is here, and whose; the chosen family's first."""
    families = sorted(params.backbones, key=lambda name: name != params.model)
    for name in families:
        family = params.backbones[name]
        for here in map(find, (family.small, family.full)):
            if here.tokenizer:
                return here.name, here.tokenizer
    return None


def save_configuration(here: Here, folder: Path) -> Path:
    """The folder of its configuration; that of a published shape is written into `folder`."""
    if here.folder is None:
        configuration(str(here.shape)).save_pretrained(folder)
    return here.folder or folder
