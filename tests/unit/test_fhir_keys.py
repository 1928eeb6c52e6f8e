"""Keys for SMART backend services: which files hold one, what is published, and what the signatures are."""

import base64
import hashlib
import json
import stat

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from fastapi import FastAPI
from fastapi.testclient import TestClient
from joserfc.jwk import ECKey

from plugin.cli import main
from plugin.errors import InputError
from plugin.fhir.keys import KeyFiles, make_key, read_key
from plugin.service.keys import keys_router

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
OPENSSL = serialization.PrivateFormat.TraditionalOpenSSL
PLAIN = serialization.NoEncryption()


def parts(token):
    return [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")]


def test_es384_is_a_signature_on_p_384_with_sha_384(tmp_path):
    key = make_key(tmp_path / "key.pem", "ec")
    token = key.signed({"iss": "sightline"})

    header, claims, signature = parts(token)
    public = serialization.load_pem_private_key((tmp_path / "key.pem").read_bytes(), None).public_key()
    r, s = (int.from_bytes(half, "big") for half in (signature[:48], signature[48:]))
    public.verify(encode_dss_signature(r, s), token.rpartition(".")[0].encode(), ec.ECDSA(hashes.SHA384()))
    assert json.loads(header) == {"alg": "ES384", "kid": key.key_id, "typ": "JWT"}
    assert json.loads(claims) == {"iss": "sightline"}


def test_rs384_is_a_signature_by_rsa_with_sha_384(tmp_path):
    key = make_key(tmp_path / "key.pem", "rsa")
    token = key.signed({"iss": "sightline"})

    header, _, signature = parts(token)
    public = serialization.load_pem_private_key((tmp_path / "key.pem").read_bytes(), None).public_key()
    public.verify(signature, token.rpartition(".")[0].encode(), padding.PKCS1v15(), hashes.SHA384())
    assert json.loads(header)["alg"] == "RS384"


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_only_the_public_half_is_published(tmp_path, kind):
    key = make_key(tmp_path / "key.pem", kind)
    (published,) = KeyFiles(tmp_path / "key.pem").public()["keys"]

    assert set(published) == {"kty", "kid", "alg", "use", "key_ops"} | (
        {"crv", "x", "y"} if kind == "ec" else {"n", "e"}
    )
    assert (published["kid"], published["key_ops"]) == (key.key_id, ["verify"])


def test_the_key_id_is_the_thumbprint_of_rfc_7638(tmp_path):
    key = make_key(tmp_path / "key.pem", "ec")
    public = key.public()
    canonical = json.dumps({name: public[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))

    digest = hashlib.sha256(canonical.encode()).digest()
    assert key.key_id == base64.urlsafe_b64encode(digest).decode().rstrip("=")


def test_a_key_may_be_a_jwk_with_a_name_of_its_own(tmp_path):
    jwk = ECKey.generate_key("P-384").as_dict(private=True) | {"kid": "2026-11", "alg": "ES384"}
    (tmp_path / "key.json").write_text(json.dumps(jwk))

    assert read_key(tmp_path / "key.json").key_id == "2026-11"


@pytest.mark.parametrize("form", [PKCS8, OPENSSL])
def test_keys_of_openssl_are_read(tmp_path, form):
    (tmp_path / "ec.pem").write_bytes(ec.generate_private_key(ec.SECP384R1()).private_bytes(PEM, form, PLAIN))
    (tmp_path / "rsa.pem").write_bytes(rsa.generate_private_key(65537, 2048).private_bytes(PEM, form, PLAIN))

    assert [read_key(tmp_path / name).algorithm for name in ("ec.pem", "rsa.pem")] == ["ES384", "RS384"]


def ec_public():
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    return public.public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "content",
    [
        lambda: b"",
        lambda: b"{",
        lambda: b'{"kty": "oct", "k": "c2VjcmV0LXZhbHVl"}',
        lambda: b"-----BEGIN PRIVATE KEY-----\nsecret-value\n-----END PRIVATE KEY-----\n",
        ec_public,
        lambda: ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, PKCS8, PLAIN),
        lambda: rsa.generate_private_key(65537, 1024).private_bytes(PEM, PKCS8, PLAIN),
        lambda: ec.generate_private_key(ec.SECP384R1()).private_bytes(
            PEM, PKCS8, serialization.BestAvailableEncryption(b"secret-value")
        ),
    ],
    ids=["empty", "half JSON", "symmetric", "no key", "public", "P-256", "short RSA", "encrypted"],
)
def test_what_is_no_private_key_for_smart_is_refused_without_being_quoted(tmp_path, content):
    (tmp_path / "key.pem").write_bytes(content())

    with pytest.raises(InputError, match=r"key\.pem holds no private key for RS384 or ES384") as refused:
        read_key(tmp_path / "key.pem")
    assert "secret-value" not in str(refused.value)


def test_a_key_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        KeyFiles(tmp_path / "nowhere.pem").keys()


def test_the_command_makes_a_key_that_only_its_owner_can_read_and_overwrites_none(tmp_path, capsys):
    path = tmp_path / "key.pem"

    assert main(["keys", "new", str(path), "--kind", "rsa"]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_key(path).key_id in capsys.readouterr().out

    before = path.read_bytes()
    assert main(["keys", "new", str(path)]) == 65
    assert path.read_bytes() == before


def test_the_service_publishes_both_keys_and_sees_a_change_at_once(tmp_path):
    new, old = (make_key(tmp_path / name, kind) for name, kind in (("new.pem", "ec"), ("old.pem", "rsa")))
    app = FastAPI()
    app.include_router(keys_router(KeyFiles(tmp_path / "new.pem", tmp_path / "old.pem").public))

    with TestClient(app) as client:
        answer = client.get("/.well-known/jwks.json")
        (tmp_path / "new.pem").unlink()
        newest = make_key(tmp_path / "new.pem", "ec")
        changed = client.get("/.well-known/jwks.json")

    assert answer.headers["cache-control"] == "max-age=300"
    assert [key["kid"] for key in answer.json()["keys"]] == [new.key_id, old.key_id]
    assert [key["kid"] for key in changed.json()["keys"]] == [newest.key_id, old.key_id]
    assert '"d"' not in answer.text
