"""PyTorch's own checkpoints of several machines: not of secrets, but plain ones go into secret modules."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException

import tacit
from tacit.errors import RevealError


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_secrets_are_not_written_by_others_and_what_is_plain_can_be_read(tmp_path: Path) -> None:
    plain = nn.Linear(3, 2)
    dcp.save(plain.state_dict(), checkpoint_id=tmp_path / "plain", no_dist=True)

    with tacit.session():
        model = tacit.share(nn.Linear(3, 2), owner="alice")
        with pytest.raises((RevealError, CheckpointException), match=r"tacit\.save"):
            dcp.save(model.state_dict(), checkpoint_id=tmp_path / "secret", no_dist=True)
        state = model.state_dict()
        dcp.load(state, checkpoint_id=tmp_path / "plain", no_dist=True)
        model.load_state_dict(state)
        weight = tacit.reveal(model.weight)

    assert not list((tmp_path / "secret").glob(".metadata"))
    assert torch.allclose(weight, plain.weight, atol=1e-4)
