"""What users call: a session, and the two gates between plain and secret values, `share` and `reveal`."""

from tacit.api.active import active_protocol, current_session, is_role, role
from tacit.api.revealing import release, reveal
from tacit.api.running import beside, embedded, session
from tacit.api.sharing import adopted, share

__all__ = [
    "active_protocol",
    "adopted",
    "beside",
    "current_session",
    "embedded",
    "is_role",
    "release",
    "reveal",
    "role",
    "session",
    "share",
]
