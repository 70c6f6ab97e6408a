"""What a server may be told, and which addresses need a key."""

from __future__ import annotations

from typing import Any

import pytest

from data.records import UserError
from serving.server_config import ServeConfig, ServingEngineConfig, is_loopback

KEY = "0123456789abcdef"


def test_the_defaults_serve_on_loopback_without_a_key() -> None:
    ServeConfig().validate()
    assert ServeConfig().host == "127.0.0.1"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "models.example", "10.0.0.1", "", "localhost.x"])
def test_an_address_that_others_reach_needs_a_key(host: str) -> None:
    with pytest.raises(UserError, match="can be reached from other machines and there is no API key"):
        ServeConfig(host=host).validate()
    ServeConfig(host=host, api_key=KEY).validate()


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_what_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_key_that_can_be_guessed_is_refused_and_not_repeated() -> None:
    with pytest.raises(UserError, match="5 characters can be guessed") as refused:
        ServeConfig(api_key="12345").validate()
    assert "12345" not in str(refused.value)


def test_the_key_is_in_no_text_of_the_settings() -> None:
    assert KEY not in repr(ServeConfig(api_key=KEY))


@pytest.mark.parametrize(
    "changes",
    [
        {"port": -1}, {"port": 65536}, {"max_requests": 0}, {"max_body_bytes": 0}, {"max_choices": 0},
        {"drain_timeout_s": 0}, {"head_timeout_s": 0}, {"hold_timeout_s": -1}, {"poll_s": 0},
        {"body_timeout_s": float("nan")},
        {"engine": ServingEngineConfig(max_num_seqs=0)}, {"engine": ServingEngineConfig(block_size=7)},
        {"engine": ServingEngineConfig(gpu_memory_utilization=1.0)}, {"engine": ServingEngineConfig(max_model_len=0)},
    ],
)  # fmt: skip
def test_a_setting_that_makes_no_sense_is_named(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError) as refused:
        ServeConfig(**changes).validate()
    name = next(iter(changes))
    assert name in str(refused.value) or name == "engine"
