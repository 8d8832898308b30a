"""pgweir-load: its build, and the server in it that answers at once."""

import subprocess
from pathlib import Path

from process import Service, free_port

ROOT = Path(__file__).resolve().parents[2]


def build():
    """Builds pgweir-load; the path of the binary."""
    target = ROOT / "target/load"
    subprocess.run(["cargo", "build", "--release", "--quiet", "--locked", "--manifest-path",
                    ROOT / "benches/load/Cargo.toml", "--target-dir", target], check=True)
    return target / "release/pgweir-load"


class NullServer:
    """Answers whatever is asked, so that what stands before it is what saturates."""

    def __init__(self, load, folder):
        self.port = free_port()
        argv = [load, "null-server", "--listen", f"127.0.0.1:{self.port}"]
        self.service = Service("null-server", argv, self.port, folder)

    def start(self):
        self.service.start()

    def stop(self):
        self.service.stop()
