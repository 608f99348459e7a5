"""The libraries that decide the numbers."""

import importlib.metadata

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "tokenizers")


def versions() -> dict[str, str]:
    """The installed versions of the libraries that decide the numbers."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}
