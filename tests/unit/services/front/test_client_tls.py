"""Commands against a service whose certificate a company's own authority has signed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme

from meterstream_services.client import Api, ApiUnreachable
from meterstream_services.http.front_tls import Certificate
from tests.unit.services.front.conftest import running

if TYPE_CHECKING:
    from pathlib import Path


def test_the_authority_of_the_environment_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE names who vouches; without it the sentence says so."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "chain.pem")
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "METERSTREAM_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    with running(tls=Certificate(tmp_path / "chain.pem", tmp_path / "key.pem")) as front:
        url = f"https://localhost:{front.address[1]}"
        with (
            Api(url) as api,
            pytest.raises(
                ApiUnreachable, match=r"is not trusted .*; name the file .* SSL_CERT_FILE"
            ),
        ):
            api.get_bytes("/a")

        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        with Api(url) as api:
            assert api.get_bytes("/a") == b"/a 0"
