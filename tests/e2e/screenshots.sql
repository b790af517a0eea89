-- Plausible calls of one day ($1): $2 of them, more at noon; for docs/screenshots.
INSERT INTO usage_logs (id, user_id, service, model, tokens, credits, metadata,
    created_at, route, method, status, outcome, duration_ms, bytes_received, bytes_sent,
    input_tokens, output_tokens, cached_tokens, reasoning_tokens, usage_source, pricing,
    price_version, role, node, recorded_at, chain, seal)
SELECT gen_random_uuid(), u.name, k.service, k.model, coalesce(t.input + t.output, 0),
    coalesce(ceil(t.output * k.price)::int, 0),
    jsonb_build_object('request', jsonb_build_object(
        'endpoint', '/api/' || k.route, 'method', 'POST', 'parameters', '{}'::jsonb)),
    h.at, k.route, 'POST', s.status,
    CASE WHEN s.status < 400 THEN 'ok' WHEN s.status < 500 THEN 'client_error'
        ELSE 'upstream_error' END,
    s.duration, 300, s.duration * 3, t.input, t.output, t.input / 4, t.output / 8,
    CASE WHEN k.model IS NULL THEN 'absent' ELSE 'provider' END,
    CASE WHEN k.model IS NULL THEN 'free' ELSE 'priced' END,
    '2026-01', 'user', 'local', h.at, 0, 0
FROM generate_series(1, $2::int) AS n
CROSS JOIN LATERAL (SELECT n, random() AS user, random() AS kind, random() AS error,
    random() AS hour, random() AS size, random() AS slow) AS r
CROSS JOIN LATERAL (SELECT (ARRAY['demo-user', 'alice', 'bob', 'chandra', 'dmitri',
    'eve', 'fatima', 'grace', 'hiro', 'ines', 'jonas', 'kofi'])
    [1 + floor(12 * power(r.user, 2.2))::int] AS name) AS u
CROSS JOIN LATERAL (SELECT * FROM (VALUES
    (0, 'openai', 'gpt-4o', 'openai', 0.01, 900),
    (1, 'openai', 'gpt-4o-mini', 'openai', 0.0006, 450),
    (2, 'claude', 'claude-sonnet-4', 'anthropic', 0.015, 1200),
    (3, 'core-service', NULL, 'users', 0, 12),
    (4, 'claude', 'claude-haiku-4', 'anthropic', 0.004, 500),
    (5, 'mcp-server', NULL, 'mcp', 0, 60),
    (6, 'sora2', 'sora2-video', 'mcp', 0.02, 4000),
    (7, 'control', NULL, 'usage', 0, 30)
) AS v (number, service, model, route, price, base)
    WHERE number = floor(8 * power(r.kind, 1.3))::int) AS k
CROSS JOIN LATERAL (SELECT CASE WHEN r.error < 0.97 THEN 200 WHEN r.error < 0.985
    THEN 404 WHEN r.error < 0.995 THEN 429 ELSE 502 END AS status,
    (k.base * (0.3 + 3 * power(r.slow, 6)))::int AS duration) AS s
CROSS JOIN LATERAL (SELECT
    CASE WHEN k.model IS NOT NULL AND s.status = 200 THEN (200 + 3000 * r.size)::int
        END AS input,
    CASE WHEN k.model IS NOT NULL AND s.status = 200 THEN (50 + 900 * r.size)::int
        END AS output) AS t
CROSS JOIN LATERAL (SELECT $1::date::timestamptz + make_interval(
    secs => 86399.9 * (0.5 + (r.hour - 0.5) * (0.5 + 0.5 * abs(r.hour - 0.5)))) AS at) AS h
WHERE h.at < now() - interval '3 minutes'
