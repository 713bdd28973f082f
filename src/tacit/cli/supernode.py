"""`tacit supernode`: a site's SuperNode of a Flower federation, for the apps that the site has approved."""

from __future__ import annotations

import click

__all__ = ["supernode"]


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--app", "apps", multiple=True, metavar="APP", help="An approved app: its folder, its .fab, or sha256:….")
@click.option("--digest", is_flag=True, help="Print the digests of the apps, and stop.")
@click.argument("flower", nargs=-1, type=click.UNPROCESSED)
def supernode(apps: tuple[str, ...], digest: bool, flower: tuple[str, ...]) -> None:
    """Run Flower's SuperNode with its own options FLOWER, but only for apps that this site has approved.

    A SuperNode runs whatever code the SuperLink sends, the settings of secure aggregation among it. This one compares
    the app with your own copy, which you have read, and refuses any other.
    """
    from tacit.federated.site import SCHEME, digest_of, run_supernode

    if digest:
        for app in apps:
            click.echo(SCHEME + digest_of(app))
        return
    run_supernode(apps, flower)
