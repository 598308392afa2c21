"""TLS of the front: who may speak, for how long it may begin, and a certificate read again."""

from __future__ import annotations

import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from meterstream_services.http.front_tls import Certificate, CertificateUnfit
from tests.unit.services.front.conftest import (
    SMALL,
    Running,
    client_context,
    read_all,
    request,
    running,
)


def test_a_certificate_serves_https(tmp_path: Path) -> None:
    """A client that trusts the authority is answered over TLS 1.2 and 1.3, and not below."""
    authority = trustme.CA()
    with running(tls=_issue(authority, tmp_path)) as front:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = client_context(authority)
            context.minimum_version = context.maximum_version = version
            assert _ask(front, context).endswith(b"/a 0")
        old = client_context(authority)
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError):
            _ask(front, old)


def test_a_certificate_is_read_again(tmp_path: Path) -> None:
    """New connections get what was read again; a pair that does not fit changes nothing."""
    first, second = trustme.CA(), trustme.CA()
    certificate = _issue(first, tmp_path)
    with running(tls=certificate) as front:
        assert _ask(front, client_context(first)).endswith(b"/a 0")
        _issue(second, tmp_path)
        assert _ask(front, client_context(first)).endswith(b"/a 0")
        certificate.reload()
        with pytest.raises(ssl.SSLCertVerificationError):
            _ask(front, client_context(first))
        (tmp_path / "key.pem").write_text("nothing")
        with pytest.raises(CertificateUnfit, match="belong together"):
            certificate.reload()
        assert _ask(front, client_context(second)).endswith(b"/a 0")


def test_files_that_are_no_certificate(tmp_path: Path) -> None:
    """Files that are missing, empty, or of two pairs are one sentence."""
    _issue(trustme.CA(), tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    _issue(trustme.CA(), other)
    (tmp_path / "empty").touch()

    for certificate, key in (
        ("none", "key.pem"), ("chain.pem", "none"), ("empty", "key.pem"), ("chain.pem", "empty"),
        ("chain.pem", "other/key.pem"), (".", "key.pem"),
    ):  # fmt: skip
        with pytest.raises(CertificateUnfit, match="PEM files that belong together"):
            Certificate(tmp_path / certificate, tmp_path / key)


def test_who_begins_no_tls_is_let_go(tmp_path: Path) -> None:
    """Silence, and a request without TLS, end the connection; others are answered after them."""
    authority, limits = trustme.CA(), replace(SMALL, handshake_seconds=0.4)
    with running(limits, tls=_issue(authority, tmp_path)) as front:
        with front.connect() as client:
            client.sendall(request("/plain"))
            assert b"HTTP/1.1" not in read_all(client)
        with front.connect() as client:
            assert read_all(client) == b""
        assert _ask(front, client_context(authority)).endswith(b"/a 0")


def test_limits_hold_inside_tls(tmp_path: Path) -> None:
    """A slow head and a broken one are refused inside TLS as well."""
    authority = trustme.CA()
    with running(tls=_issue(authority, tmp_path)) as front:
        context = client_context(authority)
        assert _ask(front, context, b"GET / HTTP/1.1\r\n").startswith(b"HTTP/1.1 408 ")
        assert _ask(front, context, b"NONSENSE\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        assert front.limited() == {"head_seconds": 1, "malformed": 1}


def _issue(authority: trustme.CA, directory: Path) -> Certificate:
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(directory / "key.pem")
    chain = directory / "chain.pem"
    chain.unlink(missing_ok=True)
    for pem in issued.cert_chain_pems:
        pem.write_to_path(chain, append=True)
    return Certificate(chain, directory / "key.pem")


def _ask(front: Running, context: ssl.SSLContext, sent: bytes | None = None) -> bytes:
    with (
        socket.create_connection(front.address, timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        client.sendall(request("/a", "GET", "Connection: close") if sent is None else sent)
        return read_all(client)
