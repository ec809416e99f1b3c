"""What versions up to 0.4 wrote, made of what this one writes: SHA-256 in place of BLAKE3."""

import hashlib
import json
from pathlib import Path
from typing import Any

from nsd_prep.report.stamp import without_stamp


def stating_sha256(entry: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the record of a file with the file's SHA-256."""
    content = path.read_bytes()
    if path.name == "index.html":
        content = without_stamp(content)
    rest = {name: value for name, value in entry.items() if name != "blake3"}
    return rest | {"sha256": hashlib.sha256(content).hexdigest()}


def state_sha256_in_manifest(folder: Path) -> None:
    """Let the manifest of an output folder, or of an export, list files by their SHA-256."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    outputs = content["outputs"].items()
    content["outputs"] = {name: stating_sha256(entry, folder / name) for name, entry in outputs}
    path.write_text(json.dumps(content))
