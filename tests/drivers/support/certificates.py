"""Certificates as operators make them: by OpenSSL's program."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .process import temporary_folder


class Certificates:
    """An authority and what it has signed, in a folder that clients and servers can read."""

    def __init__(self) -> None:
        self.folder = temporary_folder("certificates")
        self.ca = self.authority("ca")

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def authority(self, name: str) -> str:
        """Makes another authority; where its certificate is."""
        self._openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", f"/CN=authority {name}",
            "-keyout", self.path(f"{name}.key"), "-out", self.path(f"{name}.crt"),
        )
        return self.path(f"{name}.crt")

    def issue(
        self, name: str, alternatives: str = "", *, ca: str = "ca", version: int = 3,
    ) -> tuple[str, str]:
        """Signs a certificate with `name` as common name; where it is, and its key."""
        cert, key, request = (self.path(f"{name}.{what}") for what in ("crt", "key", "csr"))
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
                      "-keyout", key, "-out", request)
        sign = ["x509", "-req", "-in", request, "-CA", self.path(f"{ca}.crt"),
                "-CAkey", self.path(f"{ca}.key"), "-CAcreateserial", "-out", cert, "-days", "2"]
        if version == 3:
            extensions = self.folder / f"{name}.cnf"
            extensions.write_text(
                "basicConstraints = CA:FALSE\n"
                + (f"subjectAltName = {alternatives}\n" if alternatives else "")
            )
            sign += ["-extfile", str(extensions)]
        self._openssl(*sign)
        Path(key).chmod(0o600)
        return cert, key

    def self_signed(self, name: str) -> tuple[str, str]:
        """As PostgreSQL's documentation makes one: its own authority, and no alternative names."""
        cert, key = self.path(f"self.{name}.crt"), self.path(f"self.{name}.key")
        self._openssl("req", "-new", "-x509", "-days", "2", "-nodes", "-out", cert, "-keyout", key,
                      "-subj", f"/CN={name}")
        Path(key).chmod(0o600)
        return cert, key

    def key_in_other_forms(self, name: str) -> dict[str, tuple[str, str]]:
        """Certificates whose keys are in each form that OpenSSL writes."""
        cert, key = self.issue(name, "DNS:localhost")
        forms = {"PKCS #8": (cert, key)}
        old = self.path(f"{name}.pkcs1.key")
        self._openssl("rsa", "-in", key, "-traditional", "-out", old)
        forms["PKCS #1"] = (cert, old)
        curve, curve_cert = self.path(f"{name}.sec1.key"), self.path(f"{name}.sec1.crt")
        self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-out", curve)
        self._openssl("req", "-new", "-x509", "-key", curve, "-days", "2", "-subj", "/CN=localhost",
                      "-out", curve_cert)
        forms["SEC 1"] = (curve_cert, curve)
        return forms

    def _openssl(self, *args: str) -> None:
        done = subprocess.run(
            ["openssl", *args], cwd=self.folder, capture_output=True, text=True, timeout=60,
        )
        assert done.returncode == 0, f"openssl {' '.join(args)}:\n{done.stderr}"
