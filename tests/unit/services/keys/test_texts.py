"""The text of a key, and customer ids that are signed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_services.keys.signing import TEXT_MAX, Signer
from meterstream_services.keys.text import hash_of, id_of, new_key


def test_a_key_has_its_form() -> None:
    """A key is mk_live_, an id of 8 letters, and a secret of 43 letters of base 62."""
    key = new_key()

    assert re.fullmatch(r"mk_live_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}", key.text)
    assert id_of(key.text) == key.id
    assert len(hash_of(key.text)) == 32


def test_no_two_keys_are_alike() -> None:
    """Neither ids nor secrets repeat."""
    keys = [new_key() for _ in range(500)]

    assert len({key.id for key in keys}) == 500
    assert len({key.text[-43:] for key in keys}) == 500


@given(st.text())
def test_other_texts_have_no_id(text: str) -> None:
    """Whatever is no key's form has no id, and its hash can be taken all the same."""
    assert id_of(text) is None
    assert len(hash_of(text)) == 32


@given(st.text(max_size=64).filter(lambda text: len(text.encode("utf-8", "ignore")) <= 128))
def test_a_signed_id_comes_back(tenant: str) -> None:
    """What was signed is verified to the tenant and the key, whatever the tenant's name."""
    if not tenant.isprintable():
        return
    signer = Signer(b"s" * 32)

    assert signer.verify(signer.sign(tenant, "abcdEFGH")) == (tenant, "abcdEFGH")


def test_ids_fit_the_longest_tenant() -> None:
    """The longest tenant there may be makes an id within the bound, of harmless letters."""
    text = Signer(b"s").sign("ü" * 64, "abcdEFGH")

    assert len(text) <= TEXT_MAX
    assert re.fullmatch(r"mc1_[0-9A-Za-z_-]+", text)


def test_a_changed_id_is_nobodys() -> None:
    """Each letter counts: no other text verifies, nor does the same under another secret."""
    signer = Signer(b"s" * 32)
    text = signer.sign("acme", "abcdEFGH")

    for place in range(len(text)):
        for letter in "Az0_-":
            changed = text[:place] + letter + text[place + 1 :]
            if changed != text and place < len(text) - 1:
                assert signer.verify(changed) is None, changed
    assert Signer(b"t" * 32).verify(text) is None


@given(st.text(max_size=600) | st.text(alphabet="mc1_-Aa=", max_size=80).map("mc1_{}".format))
def test_any_text_may_be_verified(text: str) -> None:
    """Nothing that somebody sends as a customer id is an error."""
    assert Signer(b"s").verify(text) is None


@pytest.mark.parametrize("text", ["mc1_", "mc1__", "mc1_" + "A" * 22, "mc1_" + "A" * 600])
def test_cut_ids(text: str) -> None:
    """An id without a payload or signature, or a very long one, is nobody's."""
    assert Signer(b"s").verify(text) is None
