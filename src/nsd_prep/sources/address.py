"""Addresses of remote datasets: a bucket of S3's kind, or a folder of a web server.

Which variables of the environment count, for ``s3://BUCKET[/PREFIX]``:

- ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL``: the server, where it is not Amazon's.
- ``AWS_REGION`` or ``AWS_DEFAULT_REGION``: the region; us-east-2 for NSD's own bucket at Amazon.
- ``AWS_ACCESS_KEY_ID`` with ``AWS_SECRET_ACCESS_KEY`` (and ``AWS_SESSION_TOKEN``): requests are
  signed with them, unless they are for NSD's own bucket at Amazon, which is public, or
  ``AWS_SKIP_SIGNATURE`` is true.

Everything else is ignored: profiles, instance roles and any other variable. Requests without both
keys are anonymous.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from obstore.store import HTTPStore, S3Store

from nsd_prep.core.errors import ParameterError

NSD_BUCKET: Final = "natural-scenes-dataset"
NSD_REGION: Final = "us-east-2"
_DEFAULT_REGION: Final = "us-east-1"

#: Seconds that a request may take with its answer, and that a connection may take.
REQUEST_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Address:
    """Where a remote dataset lies.

    Attributes
    ----------
    scheme : {"s3", "http", "https"}
        How it is spoken to.
    host : str
        The bucket, or the server with its port.
    prefix : str
        Folder below it; "" for none.
    """

    scheme: Literal["s3", "http", "https"]
    host: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Return the address that a URL means, whose slashes at the end play no part.

        ``s3://BUCKET[/PREFIX]`` or ``http(s)://HOST[:PORT][/PREFIX]``; ParameterError for another.
        """
        parts = urlsplit(url)
        plain = not (parts.query or parts.fragment or "@" in parts.netloc)
        if parts.scheme not in ("s3", "http", "https") or not parts.netloc or not plain:
            raise ParameterError(
                f"The NSD root {url} is not an address that can be read: expected a folder, "
                "s3://BUCKET/PREFIX or https://HOST/PREFIX, without user, query or fragment."
            )
        return cls(parts.scheme, parts.netloc, parts.path.strip("/"))  # type: ignore[arg-type]

    @property
    def url(self) -> str:
        """The URL, without a slash at its end."""
        return f"{self.scheme}://{self.host}" + (f"/{self.prefix}" if self.prefix else "")

    @property
    def is_nsd_bucket(self) -> bool:
        """Whether NSD's own bucket is meant, by whichever way it is reached."""
        if self.scheme == "s3":
            return self.host == NSD_BUCKET
        is_amazon = self.host.endswith(".amazonaws.com")
        return is_amazon and NSD_BUCKET in f"{self.host}/{self.prefix}"

    def store(self) -> HTTPStore | S3Store:
        """Return the obstore store for it, which tries nothing twice: the client does."""
        options: Any = {
            "allow_http": True,
            "timeout": timedelta(seconds=REQUEST_SECONDS),
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "user_agent": "nsd-prep",
        }
        retries: Any = {"max_retries": 0}
        if self.scheme != "s3":
            return HTTPStore(self.url, client_options=options, retry_config=retries)
        return S3Store(
            self.host,
            prefix=self.prefix or None,
            config=s3_config(self.host, os.environ),
            client_options=options,
            retry_config=retries,
        )


def chosen_endpoint(environment: Mapping[str, str]) -> str | None:
    """Return the server of S3's kind that the environment names; None for Amazon's."""
    return environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None


def s3_config(bucket: str, environment: Mapping[str, str]) -> Any:
    """Return the settings of a store of S3's kind, each one that obstore could take elsewhere.

    Of the environment the variables named at the top of this module count.
    """
    endpoint = chosen_endpoint(environment)
    is_public = bucket == NSD_BUCKET and not endpoint
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if is_public:
        region = NSD_REGION
    config: dict[str, Any] = {
        "region": region or _DEFAULT_REGION,
        "endpoint": endpoint or f"https://s3.{region or _DEFAULT_REGION}.amazonaws.com",
        "virtual_hosted_style_request": False,
        "request_payer": False,
        "s3_express": False,
        "skip_signature": True,
        # obstore would take one of them from the environment, and miss the other.
        "access_key_id": "",
        "secret_access_key": "",
    }
    key, secret = (
        environment.get("AWS_ACCESS_KEY_ID"),
        environment.get("AWS_SECRET_ACCESS_KEY"),
    )
    unsigned = environment.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true", "yes")
    if key and secret and not is_public and not unsigned:
        config |= {"skip_signature": False, "access_key_id": key, "secret_access_key": secret}
        if token := environment.get("AWS_SESSION_TOKEN"):
            config["session_token"] = token
    return config
