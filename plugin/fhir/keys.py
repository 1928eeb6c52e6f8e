"""The keys by which Sightline proves itself to FHIR servers (SMART App Launch 2, Backend Services).

A key lies in a file, PEM or JWK, and signs by RS384 or ES384, the two that every such server knows at least one of. Two
may overlap: both are published, so that a server that has read the newer one takes it, and one that has not takes the
other. The files are read whenever a key is needed, so that a key is changed without a restart.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, RSAKey

from plugin.errors import InputError

SIGNING: Final = ("RS384", "ES384")
KEY_KINDS: Final = ("ec", "rsa")
KeyKind = Literal["ec", "rsa"]
_CURVE: Final = "P-384"  # RFC 7518 3.4: the one of ES384
_RSA_BITS: Final = 3072


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key. *key_id*: its own ``kid``, or else its thumbprint (RFC 7638)."""

    key: RSAKey | ECKey
    algorithm: str
    key_id: str

    def signed(self, claims: dict[str, Any]) -> str:
        """A JWT with these claims."""
        header = {"alg": self.algorithm, "kid": self.key_id, "typ": "JWT"}
        return jwt.encode(header, claims, self.key, algorithms=list(SIGNING))

    def public(self) -> dict[str, Any]:
        """The public half as a JWK."""
        half = self.key.as_dict(private=False)
        named = {"kid": self.key_id, "alg": self.algorithm, "use": "sig", "key_ops": ["verify"]}
        return {name: half[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in half} | named


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """The key that signs, and the one before it, as long as a server may not know the newest yet."""

    newest: Path
    previous: Path | None = None

    def keys(self) -> tuple[SigningKey, ...]:
        """The newest first; one key in both files is one.

        Raises
        ------
        InputError
            If a file cannot be read, or holds no such key.
        """
        keys = (read_key(path) for path in (self.newest, self.previous) if path is not None)
        return tuple({key.key_id: key for key in keys}.values())

    def public(self) -> dict[str, Any]:
        """The JWK Set to publish; raises as :meth:`keys`."""
        return {"keys": [key.public() for key in self.keys()]}


def read_key(path: Path) -> SigningKey:
    """The private key in *path*.

    Raises
    ------
    InputError
        If it cannot be read, or is neither RSA of 2048 bits or more nor EC on P-384, with its private half.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"the key file {path.name} cannot be read ({error.strerror}): check its path") from None
    key = _imported(content)
    if key is None:
        raise InputError(
            f"the key file {path.name} holds no private key for RS384 or ES384: RSA of 2048 bits or more, or EC on "
            f"{_CURVE}, as PEM or JWK without password; `sightline keys new` makes one"
        )
    algorithm = "RS384" if isinstance(key, RSAKey) else "ES384"
    return SigningKey(key, algorithm, key.kid or key.thumbprint())


def _imported(content: bytes) -> RSAKey | ECKey | None:
    document: bytes | dict[str, Any] = content
    if content.lstrip().startswith(b"{"):
        try:
            document = json.loads(content)
        except ValueError:
            return None
    for kind in (RSAKey, ECKey):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", SecurityWarning)  # a key that is too short
                key = kind.import_key(document)
        except (JoseError, ValueError, TypeError, SecurityWarning):
            continue
        suits = key.is_private and (isinstance(key, RSAKey) or key.curve_name == _CURVE)
        return key if suits and key.alg in (None, *SIGNING) else None
    return None


def make_key(path: Path, kind: KeyKind) -> SigningKey:
    """A new private key in the new file *path* (PEM), which only its owner can read.

    Raises
    ------
    InputError
        If the file is there already, or cannot be written.
    """
    key = ECKey.generate_key(_CURVE) if kind == "ec" else RSAKey.generate_key(_RSA_BITS)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InputError(f"{path} is there already, and no key is overwritten: name another file") from None
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): name another file") from None
    with os.fdopen(handle, "wb") as file:
        file.write(key.as_pem(private=True))
    return read_key(path)
