"""The server of a run's own: what it takes of the user's environment, and what it leaves."""

import os
import sqlite3
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from nsd_prep.flows.configured import may_be_configured

SECONDS = 120
#: Settings of a user's server, of Prefect Cloud and of the way there, each of which stops a client.
HOSTILE = {
    "PREFECT_SERVER_API_AUTH_STRING": "user:secret",
    "PREFECT_SERVER_API_BASE_PATH": "/elsewhere",
    "PREFECT_SERVER_API_PORT": "9",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://nobody@127.0.0.1:9/none",
    "PREFECT_DEFAULT_RESULT_STORAGE_BLOCK": "s3-bucket/none",
    "PREFECT_API_SSL_CERT_FILE": "/nowhere/certificates.pem",
    "PREFECT_API_KEY": "secret",
    "PREFECT_LOGGING_SETTINGS_PATH": "/nowhere/logging.yml",
    "SSL_CERT_FILE": "/nowhere/certificates.pem",
    "http_proxy": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "all_proxy": "socks5://127.0.0.1:9",
    "WEB_CONCURRENCY": "4",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}


class User:
    """A user with folders of their own, all of which a test may look at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home, self.temporary, self.cache = (
            folder / name for name in ("home", "temporary", "cache")
        )
        for path in (self.home, self.temporary, self.cache):
            path.mkdir()
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PREFECT_") and "proxy" not in name.lower()
        } | {
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "XDG_CACHE_HOME": str(self.cache),
            "PREFECT_HOME": str(self.home / "prefect"),
        }

    @property
    def empty_database(self) -> Path:
        """Where a database without runs is kept."""
        return self.cache / "nsd-prep-server" / f"prefect-{version('prefect')}.db"

    def run(
        self, root: Path, *words: str, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Return a run of the command, in the user's folder."""
        command = [sys.executable, "-m", "nsd_prep", "run", "--nsd-root", str(root)]
        return subprocess.run(
            [*command, "--output-dir", "out", "--no-brainscore", "--regions", "V1", *words],
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )


@pytest.fixture
def user(tmp_path: Path) -> User:
    """Return a user who has never run anything."""
    return User(tmp_path)


PROFILES = """
active = "mine"
[profiles.mine]
PREFECT_LOGGING_LEVEL = "INFO"
[profiles.local]
PREFECT_API_URL = "http://127.0.0.1:4200/api"
"""


#: Files of a user's, what is in them, the environment, and whether they may name a server.
CONFIGURED: list[tuple[str, str, dict[str, str], bool]] = [
    (".env", "FOO=1\n", {}, False),
    (".env", "prefect_api_url=http://127.0.0.1:4200/api\n", {}, True),
    ("prefect.toml", "[logging]\nlevel = 'INFO'\n", {}, False),
    ("prefect.toml", "[api]\nurl = 'http://127.0.0.1:4200/api'\n", {}, True),
    ("prefect.toml", "api.url = 'http://127.0.0.1:4200/api'\n", {}, True),
    ("prefect.toml", "profiles_path = '/elsewhere'\n", {}, True),
    ("prefect.toml", "[[[\n", {}, True),
    ("pyproject.toml", "[project]\nname = 'api'\n", {}, False),
    ("pyproject.toml", "[tool.prefect.api]\nurl = 'http://127.0.0.1:4200/api'\n", {}, True),
    ("home/profiles.toml", PROFILES, {}, False),
    ("home/profiles.toml", PROFILES, {"PREFECT_PROFILE": "local"}, True),
    ("home/profiles.toml", PROFILES.replace('"mine"', '"local"'), {}, True),
    ("home/profiles.toml", "active = [\n", {}, True),
    ("home/profiles.toml", "profiles = 1\nactive = 'mine'\n", {}, True),
    ("home/profiles.toml", "active = ['a']\n[profiles]\na = 1\n", {}, True),
    ("pyproject.toml", "[tool]\nprefect = 1\n", {}, True),
    ("nothing", "", {"PREFECT_API_URL": "http://127.0.0.1:4200/api"}, True),
    ("nothing", "", {}, False),
]


@pytest.mark.parametrize(("name", "text", "environment", "expected"), CONFIGURED)
def test_only_what_may_name_a_server_lets_a_run_look_for_one(
    name: str,
    text: str,
    environment: dict[str, str],
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "prefect", raising=False)
    for variable in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in ({"PREFECT_HOME": str(tmp_path / "home")} | environment).items():
        monkeypatch.setenv(variable, value)
    assert may_be_configured() is expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text", "environment"),
    [(name, text, given) for name, text, given, may_be in CONFIGURED if not may_be],
)
def test_where_none_is_looked_for_prefect_knows_none(
    name: str, text: str, environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    others = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
    asked = "from prefect.settings import PREFECT_API_URL; print(PREFECT_API_URL.value())"
    found = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=tmp_path,
        env=others | {"PREFECT_HOME": str(tmp_path / "home")} | environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip() == "None"


@pytest.mark.parametrize("module", ["nsd_prep.flows.server", "nsd_prep.deployments.notify"])
def test_is_imported_without_prefect(module: str) -> None:
    """Importing Prefect takes seconds, and reads whether telemetry is off."""
    program = f"import {module}, sys; print('prefect' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert ran.stdout == b"False\n"


@pytest.mark.slow
def test_nothing_of_the_environment_reaches_it(user: User, tiny_nsd: Path) -> None:
    ran = user.run(tiny_nsd, **HOSTILE)
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    assert not list(user.home.rglob("prefect.db")), "the user's database is the user's"
    assert list(user.temporary.iterdir()) == [], "the server's folder goes with it"
    assert user.empty_database.is_file()


@pytest.mark.slow
def test_nothing_of_files_of_settings_reaches_it(user: User, tiny_nsd: Path) -> None:
    (user.home / "prefect").mkdir()
    for path, text in {
        user.home / "prefect" / "profiles.toml": 'active = "mine"\n[profiles.mine]\n'
        'PREFECT_SERVER_API_AUTH_STRING = "user:secret"\n'
        'PREFECT_DEFAULT_RESULT_STORAGE_BLOCK = "s3-bucket/none"\n',
        user.folder / ".env": "PREFECT_SERVER_API_AUTH_STRING=user:secret\n"
        "PREFECT_DEFAULT_RESULT_STORAGE_BLOCK=s3-bucket/none\n",
        user.folder / "prefect.toml": '[server.api]\nauth_string = "user:secret"\n'
        '[results]\ndefault_storage_block = "s3-bucket/none"\n',
        user.folder / "pyproject.toml": '[tool.prefect.server.api]\nauth_string = "user:secret"\n'
        '[tool.prefect.results]\ndefault_storage_block = "s3-bucket/none"\n',
    }.items():
        path.write_text(text)
    ran = user.run(tiny_nsd, "--no-report")
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    assert not list(user.home.rglob("prefect.db"))
    assert list(user.temporary.iterdir()) == []


@pytest.mark.slow
def test_a_user_without_a_home_has_one_too(user: User, tiny_nsd: Path) -> None:
    program = (
        "import pwd, sys\n"
        "def nobody(_): raise KeyError('no such user')\n"
        "pwd.getpwuid = nobody\n"
        "from nsd_prep.__main__ import main\n"
        "raise SystemExit(main())\n"
    )
    environment = {
        name: value
        for name, value in user.environment.items()
        if name not in ("HOME", "XDG_CACHE_HOME", "PREFECT_HOME")
    }
    words = ["run", "--nsd-root", str(tiny_nsd), "--output-dir", "out", "--no-report"]
    ran = subprocess.run(
        [sys.executable, "-c", program, *words, "--no-brainscore", "--regions", "V1"],
        cwd=user.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert ran.returncode == 0, ran.stderr
    assert list(user.temporary.iterdir()) == []


@pytest.mark.slow
def test_a_database_that_this_prefect_cannot_read_is_named(user: User, tiny_nsd: Path) -> None:
    user.empty_database.parent.mkdir()
    with sqlite3.connect(user.empty_database) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('of_a_newer_one')")
    connection.close()
    ran = user.run(tiny_nsd, "--no-report")
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    assert "Can't locate revision identified by 'of_a_newer_one'" in ran.stderr
    assert f"made from {user.empty_database}, which is removed now" in ran.stderr
    assert user.run(tiny_nsd, "--no-report").returncode == 0


def test_a_server_without_a_folder_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from nsd_prep.core.errors import OutputError
    from nsd_prep.flows.server import temporary_server

    monkeypatch.setattr("nsd_prep.flows.server.may_be_configured", lambda: False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(OutputError, match=r"needs a folder for its database.*set TMPDIR"):
        temporary_server().__enter__()
