"""Text from a language model of Hugging Face's transformers, of a length that is public, whatever is written.

The library's own loop asks after each word whether all sentences have ended, which would reveal it. Here the loop is
asked for a fixed length, and what comes after the end of a sentence is replaced once it is all there: what came before
did not depend on it, so the words are those that the library would give.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tacit.errors import ConfigError, DataError

__all__ = ["generate"]

REVEALING = {
    "assistant_model": "it would reveal which words an assistant has guessed; leave it out",
    "max_time": "time is not the same at all roles; say max_new_tokens",
    "min_length": "it bans the end of a sentence, which is not looked for; say max_new_tokens",
    "min_new_tokens": "it bans the end of a sentence, which is not looked for; say max_new_tokens",
    "num_return_sequences": "repeat the prompt, input_ids.repeat_interleave(n, 0)",
    "return_dict_in_generate": "scores of words are what model(input_ids).logits has",
    "stop_strings": "whether they occur is secret; cut after revealing",
    "stopping_criteria": "when a sentence ends is secret; cut after revealing",
    "streamer": "words are secret until they are revealed; reveal what is returned",
}
"""Options of the library's own that say something of what is written, or of another result, and what to do instead."""


def generate(
    model: nn.Module,
    input_ids: Tensor,
    *,
    max_new_tokens: int,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_k: int | None = None,
    eos_token_id: int | Sequence[int] | None = None,
    pad_token_id: int | None = None,
    attention_mask: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """Return prompts with what a model writes after them, always `max_new_tokens` words, as integers [rows, length].

    What is secret, of model, prompt and mask, is as the program says; what is written is secret if any of them is. With
    `do_sample` each word is drawn by a secret number to which every party contributes, and which nobody knows.

    Args:
        model: of transformers, with `generate`; shared or not.
        input_ids: the prompts, [rows, length]; shorter ones padded on the left, and left out by `attention_mask`.
        max_new_tokens: how many words are written, a public number.
        do_sample: draw words by their probability, in place of taking the likeliest.
        temperature: what scores are divided by before words are drawn.
        top_k: draw among so many likeliest words only.
        eos_token_id: the word, or words, that end a sentence; of them in place of the model's own.
        pad_token_id: what stands after the end of a sentence; the first word that ends one, if the model has none.
        attention_mask: ones, and zeros for what is to be left out of the prompts. All ones if there is none.
        options: of the library's `generate`.

    Raises:
        ConfigError: for options that would reveal something of what is written.
    """
    _check(model, input_ids, max_new_tokens, options)
    language_model: Any = model
    config = language_model.generation_config
    ends = _ends(config.eos_token_id if eos_token_id is None else eos_token_id)
    pad = next((p for p in (pad_token_id, config.pad_token_id, *ends, 0) if p is not None), 0)
    mask = torch.ones(tuple(input_ids.shape), dtype=torch.int64) if attention_mask is None else attention_mask
    if do_sample:
        options = {"temperature": temperature, "top_k": top_k or 0, **options}
    with _endless(model), torch.no_grad():
        written: Tensor = language_model.generate(
            input_ids, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=do_sample, pad_token_id=pad,
            **options,
        )  # fmt: skip
    if not ends:
        return written
    return _ended(written, max_new_tokens, ends, pad)


def _check(model: nn.Module, input_ids: Tensor, count: int, options: dict[str, Any]) -> None:
    """Refuse what cannot be done, or would say something of what is written."""
    if not (hasattr(model, "generate") and hasattr(model, "generation_config")):
        raise ConfigError("tacit.generate needs a language model of transformers, one with generate")
    if input_ids.dim() != 2 or input_ids.is_floating_point() or not input_ids.numel():
        raise DataError(f"prompts are integers [rows, length], not {input_ids.dtype} of {tuple(input_ids.shape)}")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigError(f"max_new_tokens is {count!r}: say how many words, at least one")
    for name, instead in REVEALING.items():
        if options.get(name) is not None and options[name] is not False:
            raise ConfigError(f"tacit.generate takes no {name}: {instead}")
    if options.get("num_beams", 1) != 1:
        raise ConfigError("tacit.generate takes no num_beams: which beams go on is secret; leave it out")


def _ends(given: Any) -> list[int]:
    """The words that end a sentence."""
    if given is None:
        return []
    return [int(i) for i in torch.as_tensor(given).reshape(-1)]


@contextmanager
def _endless(model: Any) -> Iterator[None]:
    """While this lasts the model has no words that end a sentence, and draws from all words unless asked otherwise."""
    kept = model.generation_config
    model.generation_config = copy.deepcopy(kept)
    model.generation_config.eos_token_id = None
    model.generation_config.forced_eos_token_id = None
    try:
        yield
    finally:
        model.generation_config = kept


def _ended(written: Tensor, count: int, ends: Sequence[int], pad: int) -> Tensor:
    """The same with `pad` in the place of what comes after the first end."""
    prompt, new = written[:, :-count], written[:, -count:]
    ending = new == ends[0]
    for end in ends[1:]:
        ending = ending | (new == end)
    hits = ending.long()
    earlier = hits.cumsum(1) - hits
    return torch.cat([prompt, torch.where(earlier > 0, torch.full_like(new, pad), new)], 1)
