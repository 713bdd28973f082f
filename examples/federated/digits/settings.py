"""What all sites and the server agree on.

The SuperLink sends this file to the sites with the rest of the app. A site that starts `tacit supernode --app` with the
copy that it has read cannot be talked into another.
"""

from __future__ import annotations

from tacit.federated import PairwiseMasks, Settings

FORM = PairwiseMasks(Settings(minimum=5, limit=64.0, max_examples=1000))
