"""Which server, or which cluster, an URL means."""

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from runtime.redis import connect, is_cluster, node_name
from runtime.settings import RedisSettings, SettingsError


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://:pw@one:7001,two:7002",
        "redis://:pw@one:7001,two:7002?cluster=true",
        "redis://:pw@one:7001,two:7002/0?cluster=1",
    ],
)
def test_a_cluster_is_named_by_its_scheme_or_by_a_parameter(url: str) -> None:
    client = connect(url, timeout_s=0.1)
    nodes = client.nodes_manager.startup_nodes  # type: ignore[attr-defined]  # a cluster's own

    assert isinstance(client, RedisCluster)
    assert sorted(nodes) == ["one:7001", "two:7002"]
    assert client.connection_kwargs["password"] == "pw"
    assert is_cluster(client)


@pytest.mark.parametrize(
    "url", ["redis://one/0", "rediss://one:6380/1", "unix:///run/redis.sock"]
)
def test_any_other_url_is_one_server(url: str) -> None:
    client = connect(url, timeout_s=0.1)

    assert isinstance(client, Redis)
    assert not is_cluster(client)
    assert node_name(client, "rl:{u:1}:role:60") == ""


@pytest.mark.parametrize(
    ("url", "is_good"),
    [
        ("redis://a", True),
        ("rediss+cluster://a", True),
        ("redis+cluster://a:1,b:2", True),
        ("unix:///a", True),
        ("unix+cluster:///a", False),
        ("http://a", False),
    ],
)
def test_settings_know_these_schemes(url: str, is_good: bool) -> None:  # noqa: FBT001 - a table
    if is_good:
        assert RedisSettings.from_environ({"HUBGATE_REDIS_URL": url}).redis_url == url
        return
    with pytest.raises(SettingsError, match="HUBGATE_REDIS_URL"):
        RedisSettings.from_environ({"HUBGATE_REDIS_URL": url})
