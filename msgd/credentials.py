"""What a connection to a server takes out of files: a password, and the certificates that are trusted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from OpenSSL.crypto import Error
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS, trustRootFromCertificates

from msgd.errors import ConfigError

_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def password_in(path: str, *, where: str) -> str:
    """The password in a file, without the line end that editors add. ``where``: the setting that names the file. Raises
    ConfigError."""
    content = read_file(path, where=where)
    try:
        return content.decode().strip("\r\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"the password in {path} is not UTF-8: {error.reason}", where=where) from None


def tls_to(host: str, *, ca_file: str = "", where: str, own: PrivateCertificate | None = None) -> Any:
    """What makes a connection to ``host`` a TLS one: its certificate must be valid for that name or address, from an
    authority that this machine trusts, or only from one of those in ``ca_file`` (PEM).

    ``own``: the certificate that we show; ``where``: the setting that names the file. Raises ConfigError.
    """
    roots = trustRootFromCertificates(certificates_in(ca_file, where=where)) if ca_file else None
    return optionsForClientTLS(host, trustRoot=roots, clientCertificate=own)


def certificates_in(path: str, *, where: str) -> list[Certificate]:
    """The certificates in a PEM file, of which there is one at least. ``where``: the setting that names the file.
    Raises ConfigError."""
    blocks = _CERTIFICATE.findall(read_file(path, where=where))
    if not blocks:
        raise ConfigError(f"there is no certificate in {path}, which must have them in PEM form", where=where)
    found: list[Certificate] = []
    for number, block in enumerate(blocks, 1):
        try:
            found.append(Certificate.loadPEM(block))
        except (Error, ValueError):
            raise ConfigError(f"certificate {number} of {len(blocks)} in {path} is broken", where=where) from None
    return found


def read_file(path: str, *, where: str) -> bytes:
    """What is in a file. ``where``: the setting that names it. Raises ConfigError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", where=where) from None
    except ValueError:  # a NUL in the name
        raise ConfigError(f"{path!r} names no file", where=where) from None
