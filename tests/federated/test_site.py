"""A site runs the app that it has approved and no other, whatever the SuperLink sends."""

from __future__ import annotations

import hashlib
import shutil
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from flwr.supercore.fab import Fab
from flwr.supernode import start_client_internal

from tacit.cli.main import cli
from tacit.errors import ConfigError
from tacit.federated.site import approved, digest_of, run_supernode

from .projects import QUICKSTART
from .test_quickstart import two_lines


@pytest.fixture
def app(tmp_path):
    folder = tmp_path / "quickstart-app"
    shutil.copytree(QUICKSTART, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


class Taken(Exception):
    """The SuperNode went on to unpack an app."""


def pulled(content, digests, sent=None):
    """What Flower's own function does with an app: the reply that it inserts, or `Taken`."""
    inserted = []
    state = SimpleNamespace(
        get_run=lambda run: None, store_message=inserted.append, get_node_id=lambda: 1, store_fab=None
    )
    fab = Fab(hashlib.sha256(content).hexdigest(), content, sent or {})
    message = SimpleNamespace(metadata=SimpleNamespace(run_id=5, group_id="", message_type="train", message_id="m"))
    patched = pytest.MonkeyPatch()
    with patched.context() as m:
        m.setattr(start_client_internal, "Message", lambda error, reply_to: error)
        m.setattr(start_client_internal, "_insert_message", lambda reply, *_: inserted.append(reply))
        m.setattr(start_client_internal, "get_fused_config_from_fab", taken)
        result = approved(start_client_internal._pull_and_store_message, digests)(
            state=state, object_store=None, node_config={}, receive=lambda: (message, None),
            get_run=lambda run: SimpleNamespace(fab_hash=fab.hash_str, series_id=0), get_fab=lambda hash, run: fab,
            pull_object=None, confirm_message_received=None, trusted_entities=None,
        )  # fmt: skip
    assert result == 5
    return inserted


def taken(content, run):
    raise Taken


def test_the_approved_app_is_taken_and_any_other_answered_by_flower_s_own_error():
    mine, other = b"my app", b"my app, a little changed"

    with pytest.raises(Taken):
        pulled(mine, {hashlib.sha256(mine).hexdigest()})
    (refusal,) = pulled(other, {hashlib.sha256(mine).hexdigest()})
    forged = {"valid_license": "Valid", "tacit-site": '{"signed_at": 1, "signature": "AAAA"}'}
    (again,) = pulled(other, {hashlib.sha256(mine).hexdigest()}, forged)

    assert refusal.reason == again.reason == "The FAB could not be verified."


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # Flower uses a deprecated name
def test_a_digest_is_of_all_that_runs(app, tmp_path):
    first = digest_of(str(app))
    (app / "notes.bin").write_bytes(b"no part of the app")
    same = digest_of(str(app))
    two_lines(app, "PairwiseMasks(Settings(minimum=5))")
    five = digest_of(str(app))
    (app / "quickstart" / "__init__.py").write_text(
        (app / "quickstart" / "__init__.py").read_text().replace("minimum=5", "minimum=2")
    )
    two = digest_of(str(app))
    (tmp_path / "a.fab").write_bytes(b"bundle")

    assert first == same
    assert len({first, five, two}) == 3
    assert digest_of(str(tmp_path / "a.fab")) == hashlib.sha256(b"bundle").hexdigest()
    assert digest_of(f"sha256:{two.upper()}") == two
    printed = CliRunner().invoke(cli, ["supernode", "--digest", "--app", str(app)])
    assert printed.output.strip() == f"sha256:{two}"


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_what_would_undo_the_pin_is_refused(tmp_path, monkeypatch):
    good = "sha256:" + "0" * 64

    for option in ("--trusted-entities=x.yaml", "--allow-runtime-dependency-installation", "--insecure", "--insec"):
        with pytest.raises(ConfigError, match=option.split("=")[0]):
            run_supernode([good], ["--superlink", "here:1", option])
    with pytest.raises(ConfigError, match="which app it approves"):
        run_supernode([], [])
    for app, reason in [("sha256:12", "is no digest"), (str(tmp_path), "no Flower app"), ("gone.fab", "can be read")]:
        with pytest.raises(ConfigError, match=reason):
            digest_of(app)
    with pytest.raises(ConfigError, match="install one that Tacit knows"):
        approved(lambda state: None, set())
    monkeypatch.delattr(start_client_internal, "_pull_and_store_message")
    with pytest.raises(ConfigError, match="install one that Tacit knows"):
        run_supernode([good], [])
