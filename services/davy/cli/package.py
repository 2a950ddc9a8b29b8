"""``davy package``: make keys, look at a package, verify one, build a Bento and its image.

Belongs here: options and what is printed. Not here: reading and verifying.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Look at model packages, verify them, make Bentos and images of them.",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Argument(help="The package's folder: STORE/NAME/VERSION.")]
PublicKey = Annotated[
    Path | None, typer.Option("--public-key", help="Key of the signer, to check the signature.")
]


@app.command()
def verify(path: Folder, public_key: PublicKey = None) -> None:
    """Check every hash, the identity and, with a key, the signature."""
    from davy.packaging.package import read_package

    package = read_package(path, public_key=public_key)
    print(f"{package.contract.name} {package.contract.version}")
    print(f"{len(package.files)} files as written, identity {package.identity}")
    if package.verified:
        print("signature holds")
    elif package.signed:
        print("signed, but not checked: give --public-key")
    else:
        print("not signed")


@app.command()
def show(path: Folder, public_key: PublicKey = None) -> None:
    """Print the model card of a package, once it was verified."""
    from rich.console import Console
    from rich.markdown import Markdown

    from davy.packaging.manifest import CARD_TEXT
    from davy.packaging.package import read_package

    package = read_package(path, public_key=public_key)
    card = package.content(CARD_TEXT).decode()
    console = Console()
    if console.is_terminal:
        console.print(Markdown(card))
    else:
        print(card, end="")


@app.command()
def keys(
    folder: Annotated[Path, typer.Argument(help="Folder that gets the two files.")],
) -> None:
    """Make a key pair: one file that signs packages, one that verifies them."""
    from davy.packaging.sign import generate_keys

    private, public = generate_keys(folder)
    print(f"{private}  signs: keep it to yourself")
    print(f"{public}  verifies: give it to whoever serves")


@app.command()
def bento(
    path: Folder,
    tag: Annotated[
        str, typer.Option("--tag", help="NAME:VERSION. Default: the package's own.")
    ] = "",
    requirements: Annotated[
        Path | None,
        typer.Option("--requirements", help="Locked set to install. Default: the checkout's."),
    ] = None,
    public_key: PublicKey = None,
) -> None:
    """Build a Bento of a package, for bentoml serve and davy package image."""
    from davy.packaging.bento import build_bento

    built = build_bento(path, tag=tag, requirements=requirements, public_key=public_key)
    print(built.tag)
    print(built.path)


@app.command()
def image(
    tag: Annotated[str, typer.Argument(help="The Bento's tag, NAME:VERSION, or its folder.")],
    name: Annotated[
        str, typer.Option("--name", help="The image's. Default: the Bento's tag.")
    ] = "",
    builder: Annotated[
        str | None,
        typer.Option("--builder", help="docker, podman or buildah. Default: the first that works."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base", help="Image of Debian 12 to build in. Default: debian:bookworm-slim."
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option("--ca", help="Certificates that the way to the package registry needs (PEM)."),
    ] = None,
    uv_config: Annotated[
        Path | None, typer.Option("--uv-config", help="uv.toml that names an index of your own.")
    ] = None,
    pip_config: Annotated[
        Path | None,
        typer.Option(
            "--pip-config", help="pip.conf that does: pip fetches uv, which has the rest."
        ),
    ] = None,
    output: Annotated[
        str,
        typer.Option(
            "--output", help="oci-archive:FILE to write it to as well, for ctr images import."
        ),
    ] = "",
) -> None:
    """Build the image of a Bento: small, for a read-only root, not as root."""
    from davy.packaging.bento import find_bento
    from davy.packaging.builder import BASE, Secrets
    from davy.packaging.image import build_image

    built = build_image(
        find_bento(tag),
        name=name,
        builder=builder,
        base=base or BASE,
        secrets=Secrets(ca, uv_config, pip_config),
        output=output,
    )
    print(built.name)
    print(built.identifier)
