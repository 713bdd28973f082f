"""What libraries of others ask of secrets: which questions have an answer, and what their users write instead.

Before they use a mask, models of transformers ask whether it masks anything at all; "it may" is right whatever the mask
holds, and costs the work that the answer would have saved. All other questions are refused by `SecretTensor.__bool__`.
"""

from __future__ import annotations

from types import FrameType

from tacit.session.ledger import source_line

__all__ = ["ADVICE", "WITHOUT_NEED_TO_KNOW", "advice", "answer"]

WITHOUT_NEED_TO_KNOW: dict[tuple[str, str], bool] = {
    ("transformers.masking_utils", "_ignore_causal_mask_sdpa"): False,
    ("transformers.masking_utils", "_ignore_bidirectional_mask_sdpa"): False,
    ("transformers.masking_utils", "create_recurrent_attention_mask"): False,
    ("transformers.masking_utils", "find_packed_sequence_indices"): False,
    ("transformers.modeling_attn_mask_utils", "AttentionMaskConverter._ignore_causal_mask_sdpa"): False,
    ("transformers.modeling_attn_mask_utils", "_prepare_4d_attention_mask_for_sdpa"): False,
    ("transformers.generation.utils", "GenerationMixin.generate"): False,
    ("transformers.generation.utils", "GenerationMixin._get_logits_processor"): False,
}
"""By the module and the name of the function that asks: is the mask all ones, are all positions of one sequence, is a
prompt made of -100? "No" is right for all of them: the mask is used."""

PAGE = "see the page With other libraries"

ADVICE = {
    "/transformers/cache_utils.py": "or pass use_cache=False: this cache is made of plain tensors",
    "/transformers/models/rwkv/": "or pass use_cache=False: this cache is made of plain tensors",
    "/transformers/integrations/moe.py": 'or call model.set_experts_implementation("batched_mm")',
    "/transformers/trainer.py": f"or reveal the loss in training_step, for a Trainer adds it up; {PAGE}",
    "/transformers/generation/": "or pass attention_mask, and set model.generation_config.eos_token_id = None, so that "
    f"no end of a sentence is asked for; {PAGE}",
    "/lightning/fabric/utilities/cloud_io.py": "or pass enable_checkpointing=False to the Trainer, and call tacit.save",
    "/lightning/": f'or log tacit.reveal(loss, to="all"); {PAGE}',
    "/torchmetrics/": "or give metrics what was revealed",
    "/skorch/": f"or reveal the loss in train_step_single and validation_step; {PAGE}",
}
"""By a part of the file that the program was in: what its user writes instead."""


def answer(asking: FrameType) -> bool | None:
    """The answer to a question that a frame asks, if it needs no knowledge of the secret."""
    if "transformers" not in asking.f_code.co_filename:
        return None
    return WITHOUT_NEED_TO_KNOW.get((asking.f_globals.get("__name__", ""), asking.f_code.co_qualname))


def advice() -> str:
    """What the user of a library that the program is in writes instead, for the end of a message, or nothing."""
    file = source_line().replace("\\", "/")
    return next((f"; {text}" for part, text in ADVICE.items() if part in file), "")
