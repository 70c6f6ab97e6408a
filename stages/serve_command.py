"""The command `fourstage serve`: reads its arguments and the API key, and serves until it is told to stop."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import rollout.end_with_server  # noqa: F401  (in a process that vLLM spawned it starts the watch over the server)
from data.records import UserError

API_KEY_VARIABLE = "FOURSTAGE_API_KEY"


def serve(
    name: Annotated[str, typer.Argument(metavar="NAME_OR_ALIAS", help="A version, or an alias such as production.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings as key=value, such as engine.max_num_seqs=32 max_requests=100")
    ] = None,
    registry: Annotated[str, typer.Option(help="Where the models are: a folder, or a URL such as s3://...")] = "models",
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine's own need a key.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Where to listen; 0 takes any free port.")] = 8000,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the key that clients must send; without it ${API_KEY_VARIABLE} is read."),
    ] = None,
) -> None:
    """Serve a model of the registry to OpenAI clients, and follow its alias: promote and rollback change it in place.

    Reasoning comes as `reasoning_content`, tools as `tool_calls`; `extra_body={"thinking_budget": N}` bounds thinking.

    Example: `fourstage serve production --port 8000`
    """
    from configs.load import load_config
    from serving.server import registry_at
    from serving.server import serve as serve_until_stopped
    from serving.server_config import ServeConfig

    for option in ("host", "port", "api_key"):
        if any(item.split("=", 1)[0].strip() == option for item in overrides or ()):
            raise UserError(f"{option}: is an option of its own, see `fourstage serve --help`")
    config = replace(
        load_config(ServeConfig, [], overrides or []), host=host, port=port, api_key=read_key(api_key_file)
    )
    serve_until_stopped(registry_at(registry), name, config, say=say)


def say(line: str) -> None:
    """Print a line at once; a reader that has gone is no reason to stop serving."""
    with contextlib.suppress(BrokenPipeError):
        print(line, flush=True)


def read_key(path: Path | None) -> str | None:
    """The API key out of a file or the environment, never out of the arguments, which every user of a machine sees."""
    key = os.environ.pop(API_KEY_VARIABLE, None)  # the engine's processes inherit the environment and need no key
    if path is None:
        return key or None
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--api-key-file: {path} cannot be read ({error})") from error
    if not key:
        raise UserError(f"--api-key-file: {path} is empty; write a key into it")
    return key
