#!/usr/bin/env python3
"""Checks compose.yaml without a container engine: it parses, and what it refers to exists."""

import sys
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
SERVICES = {"postgresql", "pgweir", "prometheus"}


def problems(compose):
    """Everything that would keep `docker compose up` from working."""
    services = compose["services"]
    if set(services) != SERVICES:
        yield f"services are {sorted(services)}, not {sorted(SERVICES)}"
    for name, service in services.items():
        if "healthcheck" not in service:
            yield f"{name} has no healthcheck"
        yield from _mount_problems(name, service, compose.get("volumes", {}))
        yield from _build_problems(name, service)
        for other, wait in service.get("depends_on", {}).items():
            if other not in services or wait.get("condition") != "service_healthy":
                yield f"{name} does not wait until a service {other} is healthy"


def _mount_problems(name, service, volumes):
    for mount in service.get("volumes", []):
        source = mount.split(":")[0]
        if source.startswith("."):
            if not (HERE / source).is_file():
                yield f"{name} mounts {source}, which does not exist"
        elif source not in volumes:
            yield f"{name} mounts the volume {source}, which is not declared"


def _build_problems(name, service):
    build = service.get("build")
    if build is None:
        return
    dockerfile = HERE / build["context"] / build["dockerfile"]
    if not dockerfile.is_file():
        yield f"{name} is built from {build['dockerfile']}, which does not exist"


def scrape_problems(prometheus, compose):
    """Every target that Prometheus scrapes has to be a service of the compose file."""
    for job in prometheus["scrape_configs"]:
        for static in job["static_configs"]:
            for target in static["targets"]:
                if target.split(":")[0] not in compose["services"]:
                    yield f"prometheus.yml scrapes {target}, which is no service"


def main():
    compose = yaml.safe_load((HERE / "compose.yaml").read_text())
    prometheus = yaml.safe_load((HERE / "prometheus.yml").read_text())
    found = [*problems(compose), *scrape_problems(prometheus, compose)]
    for problem in found:
        print(f"compose.yaml: {problem}", file=sys.stderr)
    return 1 if found else 0


sys.exit(main())
