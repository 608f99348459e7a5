"""Libraries that are not installed, as far as a process can tell."""


def without(*libraries: str) -> str:
    """Python after which importing one of these fails, or any of their modules."""
    return (
        f"import sys; absent = {libraries!r}\n"
        "named = [name for name in sys.modules if name.partition('.')[0] in absent]\n"
        "sys.modules |= dict.fromkeys([*absent, *named])\n"
    )
