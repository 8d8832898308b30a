"""A certificate that says of itself that it is good: for TLS that costs what it costs, and proves nothing."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from process import StartError


@dataclass(frozen=True)
class Certificate:
    """PEM files."""

    cert: Path
    key: Path


def make(folder, user):
    """Makes a certificate of the kind that most have: EC P-256, for 127.0.0.1. Its files belong to `user`."""
    made = Certificate(folder / "server.crt", folder / "server.key")
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
            "-out", made.cert, "-keyout", made.key]
    try:
        subprocess.run(argv, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise StartError("openssl was not found: install it") from None
    except subprocess.CalledProcessError as error:
        raise StartError(f"openssl failed: {error.stderr.strip()}") from error
    made.key.chmod(0o600)
    if user is not None:
        for path in (made.cert, made.key):
            shutil.chown(path, user)
    return made
