"""TLS of the API's TCP sockets: a client needs a certificate that our authority has signed."""

from __future__ import annotations

import ssl

from oci_tools.errors import Error


def context(cert: str, key: str, authority: str) -> ssl.SSLContext:
    """A server's context, of PEM files: its certificate and key, and who signs the clients'."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.verify_mode = ssl.CERT_REQUIRED
    try:
        where = cert
        made.load_cert_chain(cert, key)
        where = authority
        made.load_verify_locations(authority)
    except ssl.SSLError as error:
        raise Error("cannot use certificate", where, str(error)) from None
    except OSError as error:
        raise Error("cannot use certificate", where, error) from None
    return made
