"""`python -m local.envoy`: from an environment to Envoy's command line."""

import subprocess
import sys
from pathlib import Path

import pytest

from local.envoy import EnvoySettings, argv, bootstrap
from runtime.settings import SettingsError

ROOT = Path(__file__).parents[3]
TEMPLATE = (
    "${node_id} ${node_cluster} ${admin_host}:${admin_port} ${ads_host}:${ads_port}"
)


def test_the_bootstrap_is_filled_in_from_the_environment() -> None:
    settings = EnvoySettings.from_environ(
        {
            "HUBGATE_NODE_ID": "edge-1",
            "HUBGATE_ADS_HOST": "control",
            "HUBGATE_ADS_PORT": "18001",
            "HUBGATE_ENVOY_ADMIN": "127.0.0.1:9902",
        }
    )
    filled = bootstrap(TEMPLATE, settings)
    assert filled == "edge-1 hubgate 127.0.0.1:9902 control:18001"


def test_an_unknown_placeholder_is_an_error() -> None:
    with pytest.raises(KeyError):
        bootstrap("${nobody}", EnvoySettings.from_environ({}))


def test_a_name_cannot_add_to_the_bootstrap() -> None:
    with pytest.raises(SettingsError, match="HUBGATE_NODE_ID"):
        EnvoySettings.from_environ({"HUBGATE_NODE_ID": "a\nadmin: {}"})


def test_the_command_line_names_workers_and_flush() -> None:
    settings = EnvoySettings.from_environ({"HUBGATE_ENVOY_CONCURRENCY": "3"})
    line = argv(Path("/bin/envoy"), settings, "{}")
    assert line[:3] == ["/bin/envoy", "--config-yaml", "{}"]
    assert "--disable-hot-restart" in line
    assert line[line.index("--concurrency") + 1] == "3"
    assert line[line.index("--file-flush-interval-msec") + 1] == "200"


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local.envoy"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_process_becomes_the_binary(tmp_path: Path) -> None:
    template = tmp_path / "bootstrap.yaml"
    template.write_text("id: ${node_id}")
    ended = run(
        HUBGATE_ENVOY_BINARY="/bin/echo",
        HUBGATE_ENVOY_BOOTSTRAP=str(template),
        HUBGATE_NODE_ID="edge-1",
    )
    assert ended.returncode == 0
    assert ended.stdout.startswith("--config-yaml id: edge-1 --disable-hot-restart")


def test_a_missing_bootstrap_is_told_in_one_line() -> None:
    ended = run(HUBGATE_ENVOY_BOOTSTRAP="/nowhere/bootstrap.yaml")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "/nowhere/bootstrap.yaml" in ended.stderr
