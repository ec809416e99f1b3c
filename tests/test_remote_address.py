"""Addresses, and which variables of the environment count for them."""

import pytest

from nsd_prep.core.errors import ParameterError
from nsd_prep.sources.address import Address, s3_config

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
STRAY = {
    "AWS_PROFILE": "work",
    "AWS_REQUESTER_PAYS": "true",
    "AWS_S3_EXPRESS": "true",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    "AWS_BUCKET": "other",
}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket", Address("s3", "bucket", "")),
        ("s3://bucket/", Address("s3", "bucket", "")),
        ("s3://bucket/a/b/", Address("s3", "bucket", "a/b")),
        ("http://localhost:8080", Address("http", "localhost:8080", "")),
        ("https://mirror.example.org/nsd", Address("https", "mirror.example.org", "nsd")),
    ],
)
def test_addresses(url: str, expected: Address) -> None:
    address = Address.parse(url)
    assert address == expected
    assert Address.parse(address.url) == address


@pytest.mark.parametrize(
    "url",
    ["gs://bucket", "ftp://host", "s3://", "bucket", "https://u:p@host/x", "https://host/x?y=1"],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ParameterError, match="not an address that can be read"):
        Address.parse(url)


def test_nsds_bucket_is_anonymous_whatever_keys_are_there() -> None:
    plain = s3_config("natural-scenes-dataset", {})
    assert plain["skip_signature"] is True
    assert plain["region"] == "us-east-2"
    assert plain["endpoint"] == "https://s3.us-east-2.amazonaws.com"
    assert s3_config("natural-scenes-dataset", KEYS | STRAY | {"AWS_REGION": "eu-west-1"}) == plain


def test_another_bucket_is_signed_for_where_both_keys_are_there() -> None:
    assert s3_config("mine", {})["skip_signature"] is True
    assert s3_config("mine", {"AWS_ACCESS_KEY_ID": "key"})["skip_signature"] is True
    signed = s3_config("mine", KEYS | {"AWS_SESSION_TOKEN": "token", "AWS_REGION": "eu-west-1"})
    assert signed["skip_signature"] is False
    assert (signed["access_key_id"], signed["session_token"]) == ("key", "token")
    assert signed["endpoint"] == "https://s3.eu-west-1.amazonaws.com"
    assert s3_config("mine", KEYS | {"AWS_SKIP_SIGNATURE": "true"})["skip_signature"] is True


def test_an_endpoint_counts_for_any_bucket() -> None:
    endpoint = {"AWS_ENDPOINT_URL": "http://localhost:9000"}
    for bucket in ("mine", "natural-scenes-dataset"):
        config = s3_config(bucket, endpoint | KEYS)
        assert config["endpoint"] == "http://localhost:9000"
        assert config["skip_signature"] is False
    preferred = s3_config("mine", endpoint | {"AWS_ENDPOINT_URL_S3": "http://localhost:9001"})
    assert preferred["endpoint"] == "http://localhost:9001"
